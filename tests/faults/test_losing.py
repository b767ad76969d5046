"""Ranks, engines, reward workers and the driver are lost for real; and SIGTERM in a long rollout is heard at once."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.e2e import runs
from tests.faults import alike, losses

pytestmark = pytest.mark.slow


MODES = (alike.SYNCHRONOUS, alike.Mode(staleness=2), alike.Mode(transport="broadcast"))


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[alike.Mode], Path]:
    """The run directory of a run in a mode, to which nothing was done."""

    @functools.cache
    def run(mode: alike.Mode) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        done = runs.run("grpo", alike.write_config(folder, tiny_model, mode), timeout=alike.PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return folder / "run"

    return run


@pytest.mark.parametrize(("mode", "name"), [(mode, name) for mode in MODES for name in losses.losses_of(mode)], ids=str)
def test_a_run_that_loses_something_ends_like_one_that_does_not(
    whole: Callable[[alike.Mode], Path], tiny_model: Path, tmp_path: Path, mode: alike.Mode, name: str
) -> None:
    losses.lose(alike.write_config(tmp_path, tiny_model, mode), tmp_path / "run", losses.LOSSES[name])
    assert alike.differences(tmp_path / "run", whole(mode), mode) == []
    if name.startswith("learner rank"):
        assert "; restart 1 of 3, from the " in (tmp_path / "run" / "run.log").read_text()
        pairs = zip(runs.metrics(tmp_path / "run"), runs.metrics(whole(mode)), strict=True)
        assert mode.staleness or all(runs.timeless(mine) == runs.timeless(other) for mine, other in pairs)


def test_a_rank_that_dies_before_the_first_checkpoint_begins_anew_and_then_ends_the_run(
    tiny_model: Path, tmp_path: Path
) -> None:
    config = alike.write_config(tmp_path, tiny_model, trainer={"checkpoint_every": None, "max_restarts": 1})
    driver = subprocess.Popen(runs.command("grpo", config), cwd=runs.REPO, stderr=subprocess.PIPE, text=True)
    rank = losses.LOSSES["learner rank in mid-update"]
    losses.hit(driver, rank, when=lambda: alike.stored(tmp_path / "run") >= 2)
    while "restart 1 of 1" not in (tmp_path / "run" / "run.log").read_text() and driver.poll() is None:
        time.sleep(0.05)
    again = losses.hit(driver, rank, when=lambda: True)
    _, errors = driver.communicate(timeout=alike.PATIENCE_S)
    said = " ".join(errors.split())
    assert driver.returncode == 1, errors
    assert f"(pid {again} on" in said and "the ranks had their 1 restarts (trainer.max_restarts)" in said
    assert "from the beginning" in said and "Traceback" not in errors


def long_answers(folder: Path, model: Path, **sections: dict) -> Path:
    """Two steps of answers of 900 tokens."""
    rollout = {"max_new_tokens": 900, "max_model_tokens": 1024, "completions": 4} | sections.pop("rollout", {})
    return runs.write_config(folder, model, rollout=rollout, learner={"pack_tokens": 1024}, **sections)


def signalled_in_drawing(config: Path, run_dir: Path, number: signal.Signals) -> float:
    """Signal the run when its engines draw for the first time after step 1 was trained; seconds until it has ended."""
    driver = subprocess.Popen(
        runs.command("grpo", config), cwd=runs.REPO, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    drawing = losses.Loss("ray::RolloutActor.generate", signal.Signals.SIGCONT)
    losses.hit(driver, drawing, when=lambda: alike.stored(run_dir) >= 1)
    started = time.monotonic()
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=alike.PATIENCE_S)
    seconds = time.monotonic() - started
    assert driver.returncode == 143, errors
    assert f"{number.name}: checkpoint of step 1 written" in " ".join(errors.split())
    return seconds


@pytest.mark.parametrize(
    ("placement", "number"), [("split", signal.SIGTERM), ("split", signal.SIGINT), ("shared", signal.SIGTERM)]
)
def test_a_signal_in_a_long_rollout_ends_the_run_within_ten_seconds(
    tiny_model: Path, tmp_path: Path, placement: str, number: signal.Signals
) -> None:
    """Answers of 900 tokens: step 2 is left, and the checkpoint is that of step 1, which was not due."""
    config = long_answers(tmp_path, tiny_model, rollout={"placement": placement})
    assert signalled_in_drawing(config, tmp_path / "run", number) < 10
    assert alike.stored(tmp_path / "run") == 1
    done = runs.run("grpo", config)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in runs.metrics(tmp_path / "run")] == [1, 2]
    ours = runs.weights(tmp_path / "run", 2)
    assert any(not torch.equal(tensor, runs.weights(tmp_path / "run", 1)[name]) for name, tensor in ours.items())


def test_a_measurement_that_a_signal_ended_is_made_by_the_next_start(tiny_model: Path, tmp_path: Path) -> None:
    """SIGTERM while the weights of step 1 answer the held-out prompts: the step is logged without their accuracy."""
    run_dir, heldout = tmp_path / "run", {"heldout": str(tmp_path / "prompts.jsonl")}
    config = long_answers(tmp_path, tiny_model, data=heldout, trainer={"eval_every": 1})
    signalled_in_drawing(config, run_dir, signal.SIGTERM)
    assert alike.stored(run_dir) == 1 and "heldout/accuracy" not in runs.metrics(run_dir)[-1]
    done = runs.run("grpo", config, timeout=alike.PATIENCE_S)
    assert done.returncode == 0, done.stderr
    measured = {row["step"]: row["heldout/accuracy"] for row in runs.metrics(run_dir)}
    evaluations = json.loads((run_dir / "evaluations.json").read_text())
    assert [one["step"] for one in evaluations] == list(measured) == [0, 1, 2]
    assert [sum(one["correct"].values()) / len(one["correct"]) for one in evaluations] == list(measured.values())
