"""Mistakes a user makes: one line with what, where and the way out, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from pangu_rl import cli
from tests.e2e import runs


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> Path:
    return runs.write_config(tmp_path, tiny_model)


def complaint(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: Path,
    *overrides: str,
    code: int = 2,
    stage: str = "grpo",
) -> str:
    """The one line that `pangu-rl STAGE` leaves behind."""
    monkeypatch.setattr(sys, "argv", ["pangu-rl", stage, "--config", str(config), *overrides])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    *begun, line = lines
    assert all(re.match(r" *\d+\.\d s  ", said) for said in begun), lines  # what the run was at
    assert line.startswith("error: ")
    return line


CASES = {
    "unknown key": (["rollout.completion=4"], ["unknown key rollout.completion", "did you mean completions"]),
    "bad value": (["learner.zero_stage=5"], ["learner.zero_stage is 5", "0, 1, 2 or 3"]),
    "missing key": (["trainer={run_dir: x}"], ["missing key trainer.steps"]),
    "group of one": (["rollout.completions=1"], ["rollout.completions is 1", "set 2 or more"]),
    "mini-batches": (
        ["trainer.prompts_per_step=3", "algorithm.mini_batches=2"],
        ["trainer.prompts_per_step 3", "algorithm.mini_batches 2", "2 or 4"],
    ),
    "too long for the engine": (["rollout.max_model_tokens=64"], ["96", "16", "112", "64"]),
    "too long for the model": (["rollout.max_model_tokens=4096"], ["4096", "2048 positions"]),
    "stale without correction": (["trainer.max_staleness=1"], ["algorithm.correction.high", "2.0"]),
    "no such model": (["model.path=/no/such/model"], ["/no/such/model", "pangu-rl curate"]),
    "no such reward": (["rewards.functions=[{name: boxed_acuracy}]"], ["boxed_acuracy", "boxed_accuracy"]),
    "no such file": (["data.train=/no/such/file.jsonl"], ["/no/such/file.jsonl"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line(
    name: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    overrides, expected = CASES[name]
    line = complaint(monkeypatch, capsys, config, *overrides)
    assert all(part in line for part in expected), line
    assert not (tmp_path / "run").exists()


ROWS = {
    "no answer": ('{"id": "a", "prompt": "1 + 1?"}', "answer"),
    "empty answer": ('{"id": "a", "prompt": "1 + 1?", "answer": " "}', "answer"),
    "not json": ('{"id": "a", "prompt": ', "row 2"),
    "too long": (json.dumps({"id": "a", "prompt": "one " * 200, "answer": "1"}), "data.max_prompt_tokens is 96"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_named(
    name: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    row, expected = ROWS[name]
    (tmp_path / "bad.jsonl").write_text('{"id": "ok", "prompt": "1 + 2?", "answer": "3"}\n' + row + "\n")
    line = complaint(monkeypatch, capsys, config, f"data.train={tmp_path}/bad.jsonl")
    assert "bad.jsonl" in line
    assert "2" in line
    assert expected in line
    assert not (tmp_path / "run").exists()


def test_an_empty_file(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in complaint(monkeypatch, capsys, config, f"data.train={tmp_path}/empty.jsonl")


def test_a_model_folder_without_weights(
    config: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (empty / file.name).write_bytes(file.read_bytes())
    assert "no weights" in complaint(monkeypatch, capsys, config, f"model.path={empty}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sft_of_a_model_whose_state_runs_into_the_next_sequence(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its learner has started: the check is of the model that would train, and before anything is written."""
    from transformers import AutoTokenizer, Lfm2Config, Lfm2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    layers = {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"], "block_ff_dim": 96}
    Lfm2ForCausalLM(Lfm2Config(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **layers)).save_pretrained(
        tmp_path / "lfm2"
    )
    tokenizer.save_pretrained(tmp_path / "lfm2")
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "messages": turns}) + "\n")
    sections = {
        "model": {"path": str(tmp_path / "lfm2")},
        "data": {"train": str(tmp_path / "rows.jsonl")},
        "trainer": {"run_dir": str(tmp_path / "run"), "steps": 1, "sequences_per_step": 1},
    }
    config = tmp_path / "sft.yaml"
    config.write_text(json.dumps(sections))
    line = complaint(monkeypatch, capsys, config, stage="sft")
    assert "the state of Lfm2ShortConv runs on from one sequence into the next; it cannot be trained packed" in line
    assert not (tmp_path / "run" / "checkpoints" / "step_1").exists()
