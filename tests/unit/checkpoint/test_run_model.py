"""Where the model of a run directory lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.checkpoint.run_model import model_of, with_start
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.config.stages import SftConfig
from pangu_rl.errors import DataError


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    return path


def trained(run: Path, *steps: int) -> Path:
    run.mkdir()
    (run / "config.yaml").write_text("x: 1")
    store = CheckpointStore(run, 9)
    for step in steps:
        folder(store.begin(step) / "hf")
        store.commit(step, {}, {})
    return run


def stage(model: Path) -> SftConfig:
    tree = {"model": {"path": str(model)}, "data": {"train": "t"}, "trainer": {"run_dir": "r", "steps": 1}}
    return SftConfig.model_validate(tree)


def test_a_model_folder_is_itself(tmp_path: Path) -> None:
    config = stage(folder(tmp_path / "model"))
    assert with_start(config) is config
    assert model_of(tmp_path / "nowhere") == tmp_path / "nowhere"


def test_a_trained_run_is_its_newest_checkpoint(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", 1, 2)
    assert with_start(stage(run)).model.path == str(run / "checkpoints" / "step_000002" / "hf")
    assert model_of(run / "checkpoints" / "step_000001") == run / "checkpoints" / "step_000001" / "hf"


def test_a_run_that_has_made_nothing_is_refused_by_the_key_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"encoder .*run is a run without a checkpoint: run that stage to its end"):
        model_of(trained(tmp_path / "run"), "encoder")


def test_assembled_and_iterative_runs(tmp_path: Path) -> None:
    assembled = folder(tmp_path / "assembled" / "model")
    assert model_of(tmp_path / "assembled") == assembled
    last = folder(tmp_path / "rounds" / "round_2" / "model")
    (tmp_path / "rounds" / "manifest.json").write_text(json.dumps({"model": "round_2/model"}))
    assert model_of(tmp_path / "rounds") == last
