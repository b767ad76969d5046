"""Where the model of a run directory lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.checkpoint.run_model import model_of, refuse_missing_run, with_start
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.config.stages import SftConfig
from pangu_rl.errors import ConfigError, DataError


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


def stage(model: Path | str, run_dir: str = "r") -> SftConfig:
    tree = {"model": {"path": str(model)}, "data": {"train": "t"}, "trainer": {"run_dir": run_dir, "steps": 1}}
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


@pytest.mark.parametrize(
    ("named", "absent"),
    [
        ("runs/warmup", "runs/warmup"),
        ("runs/sft/checkpoints/step_000020/hf", "runs/sft"),
        ("runs/begun/checkpoints/step_000020/hf", "runs/begun/checkpoints"),
    ],
)
def test_a_run_that_is_not_there_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, absent: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "begun").mkdir(parents=True)
    line = (
        f"model.path {named}: the run of an earlier stage, by its place beside run_dir runs/dpo, and {absent} is not "
    )
    with pytest.raises(DataError, match=line):
        with_start(stage(named, "runs/dpo"))


def test_a_stage_of_a_pipeline_takes_what_is_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the organisation that the pipeline's folder is called after a model is one of the hub's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"model\.path Qwen/Q: no such folder, and no such model in the hub cache"):
        with_start(stage("Qwen/Q", "Qwen/all/sft"))
    with pytest.raises(DataError, match="Qwen/all is not there: run that stage first, or name a model"):
        with_start(stage("Qwen/all/start", "Qwen/all/sft"))
    with pytest.raises(DataError, match="the hub's Qwen/Q is fetched where run_dir does not begin with Qwen"):
        with_start(stage("Qwen/Q", "Qwen/sft"))


@pytest.mark.parametrize(
    ("path", "run_dir"),
    [
        ("Qwen/Q", "runs/a"),
        ("Qwen/Q", "Qwen"),
        ("Qwen/Q", "Qwen/all/sft"),
        ("/models/m", "/models/run"),
        ("../m", "../run"),
        ("cache://models/m", "c/r"),
    ],
)
def test_other_places_are_not_taken_for_runs(path: str, run_dir: str) -> None:
    refuse_missing_run(path, run_dir)


def test_assembled_and_iterative_runs(tmp_path: Path) -> None:
    assembled = folder(tmp_path / "assembled" / "model")
    assert model_of(tmp_path / "assembled") == assembled
    last = folder(tmp_path / "rounds" / "round_2" / "model")
    (tmp_path / "rounds" / "manifest.json").write_text(json.dumps({"model": "round_2/model"}))
    assert model_of(tmp_path / "rounds") == last
