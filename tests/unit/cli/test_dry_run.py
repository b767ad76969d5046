"""`--dry-run`: rows, steps, memory and files of stages that train, from what the run would read; nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.cli import app
from pangu_rl.cli.init import write_starter
from pangu_rl.config.load import load_config
from pangu_rl.config.stages import DpoConfig
from pangu_rl.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for stage in ("grpo", "sft", "dpo"):
        write_starter(stage, tmp_path, str(tiny_model))
    return tmp_path


def dry(stage: str, *words: str) -> str:
    command = [stage, "--config", f"{stage}.yaml", "--dry-run", *words]
    return CliRunner().invoke(app, command, catch_exceptions=False).output


def test_grpo_is_told_whole(folder: Path) -> None:
    """12 rows, 2 steps of 4 prompts with 4 answers: 8 of 12 rows, 16 answers a step."""
    found = json.loads(dry("grpo", "--json"))
    assert found["rows"] == {"train": 12, "held_out": 4, "left_out": 0}
    assert (found["steps"]["total"], found["steps"]["per_step"], found["steps"]["answers_each"]) == (2, 4, 4)
    roles = {actor["role"]: actor for actor in found["memory"]["phases"][0]["actors"]}
    assert roles["learner rank"]["gib"] > 0
    assert roles["rollout actor"]["count"] == 1
    assert not (folder / "runs").exists()
    said = dry("grpo")
    assert "nothing was started" in said
    assert "2 of 4 prompts each, 0.67 times each row; 16 answers a step, 32 in all" in said


def test_what_is_done_is_counted(folder: Path) -> None:
    store = CheckpointStore(folder / "runs/sft", 1)
    store.begin(1)
    store.commit(1, {}, {})
    assert "2 of 4 sequences each, 0.67 times each row; 1 are done, it would resume" in dry("sft")


def test_the_starter_of_preferences_is_plain_dpo_over_its_pairs(folder: Path) -> None:
    """12 pairs, 2 steps of 4."""
    assert load_config(DpoConfig, "dpo.yaml").algorithm.weights == (1, 0, 0)
    found = json.loads(dry("dpo", "--json"))
    assert found["rows"] == {"train": 12, "left_out": 0}
    assert (found["steps"]["total"], found["steps"]["per_step"]) == (2, 4)
    assert [actor["role"] for actor in found["memory"]["phases"][0]["actors"]] == ["learner rank"]
    assert not (folder / "runs").exists()


def test_pre_training_reads_all_that_the_run_reads(folder: Path, tiny_model: Path) -> None:
    (folder / "rows.jsonl").write_text("".join(f'{{"id": "d{n}", "document": "some text"}}\n' for n in range(3)))
    tree = {
        "model": {"path": str(tiny_model)},
        "data": {"train": "rows.jsonl"},
        "learner": {"pack_tokens": 32},
        "trainer": {"run_dir": "runs/pretrain", "steps": 2, "packs_per_step": 2},
    }
    (folder / "pretrain.yaml").write_text(json.dumps(tree))
    assert json.loads(dry("pretrain", "--json").splitlines()[-1])["rows"] == {"train": 3, "left_out": 0}
    assert not (folder / "runs").exists()
    for words, line in (
        ("model.path=runs/nope/x", "runs/nope is not there"),
        ("data.plan=nope", "no plan that can be read"),
    ):
        with pytest.raises(DataError, match=line):
            dry("pretrain", words)


def test_what_the_run_would_be_refused_for_is_refused(folder: Path) -> None:
    (folder / "sft_rows.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    with pytest.raises(DataError, match=r"sft_rows\.jsonl, row 1"):
        dry("sft")
