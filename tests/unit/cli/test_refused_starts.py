"""A start that is refused leaves its line in the `run.log` of the run that is there, as on the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pangu_rl import cli
from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.checkpoint.settings import claim
from pangu_rl.cli.init import write_starter

SFT = "pangu-rl sft --config sft.yaml run_dir=run"


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run that was begun with other weights and has a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_starter("sft", tmp_path, str(tiny_model))
    run = tmp_path / "run"
    (run / "checkpoints" / "step_000001").mkdir(parents=True)
    claim(run, {"model": {"weights": "0" * 64}})
    (run / "config.yaml").write_text("")
    (run / "run.log").write_text("earlier lines\n")
    (tmp_path / "unmade").mkdir()
    (tmp_path / "unmade" / "config.yaml").write_text("")
    return run


def refused(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The error of a command that is refused."""
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("learner.optimizer.lr=0.1", "run was begun with "),
        ("data.train=none.jsonl", "none.jsonl: no such file or folder of rows"),
        ("model.path=unmade", "model.path unmade is a run without a checkpoint"),
    ],
)
def test_the_refusal_is_in_the_log(run, monkeypatch, capsys, change, error):
    said = refused(f"{SFT} {change}", monkeypatch, capsys)
    assert error in said
    earlier, line = (run / "run.log").read_text().splitlines()
    assert earlier == "earlier lines"
    assert line.endswith(f": {said}") and " ERROR   pangu_rl.monitoring.run_log: start refused by " in line


def test_a_second_driver_is_in_the_log_of_the_first(run, monkeypatch, capsys):
    with run_lock(run):
        said = refused(SFT, monkeypatch, capsys)
    assert said.startswith("run is in use by process ")
    assert said in (run / "run.log").read_text()


def test_a_dry_run_and_a_folder_that_is_no_run_are_left_alone(run, monkeypatch, capsys):
    (run / "run.log").unlink()
    refused(f"{SFT} data.train=none.jsonl --dry-run", monkeypatch, capsys)
    assert not (run / "run.log").exists()
    (run / "config.yaml").unlink()
    refused(f"{SFT} data.train=none.jsonl", monkeypatch, capsys)
    assert not (run / "run.log").exists()
