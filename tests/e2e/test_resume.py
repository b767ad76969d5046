"""A run that is killed and resumed equals the run that was not: prompts, rollouts and weights, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.e2e import runs

STEPS = 9


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    config = runs.write_config(folder, tiny_model, trainer=nine_steps(folder))
    done = runs.run("grpo", config)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def nine_steps(folder: Path) -> dict:
    return {"run_dir": str(folder / "run"), "steps": STEPS, "prompts_per_step": 2, "checkpoint_every": 3}


def test_killed_twice_and_resumed_equals_uninterrupted(uninterrupted: Path, tiny_model: Path, tmp_path: Path) -> None:
    """kill -9 of the whole tree in mid-generation (step 5) and in mid-update (step 8); checkpoints at 3 and 6."""
    config = runs.write_config(tmp_path, tiny_model, trainer=nine_steps(tmp_path))
    run_dir = tmp_path / "run"
    runs.run_until_killed("grpo", config, when=lambda: logged(run_dir) >= 4)
    assert not (run_dir / "rollouts" / "step_000005.parquet").exists(), "generation of step 5 was over already"
    runs.run_until_killed("grpo", config, when=(run_dir / "rollouts" / "step_000008.parquet").exists)
    assert logged(run_dir) == 7, "the update of step 8 was over already"
    done = runs.run("grpo", config)
    assert done.returncode == 0, done.stderr

    assert [row["step"] for row in runs.metrics(run_dir)] == list(range(1, STEPS + 1))
    assert runs.rollouts(run_dir) == runs.rollouts(uninterrupted)
    assert runs.learner_logprobs(run_dir) == runs.learner_logprobs(uninterrupted)
    ours, theirs = runs.weights(run_dir, STEPS), runs.weights(uninterrupted, STEPS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for mine, other in zip(runs.metrics(run_dir), runs.metrics(uninterrupted), strict=True):
        assert runs.timeless(mine) == runs.timeless(other)


def test_training_moved_the_weights(uninterrupted: Path) -> None:
    """Else the comparison above would prove nothing."""
    first, last = runs.weights(uninterrupted, 6), runs.weights(uninterrupted, STEPS)
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert all(row["train/updates"] == 1 for row in runs.metrics(uninterrupted))
    assert all(0 < row["speed/mfu"] < 1 for row in runs.metrics(uninterrupted))


def test_the_learners_log_probs_are_stored_of_what_it_trained_on(uninterrupted: Path) -> None:
    """Learner and sampler are as far apart, in the mean over a step's trained tokens, as its metric says."""
    found = runs.learner_logprobs(uninterrupted)
    trained = {(row["step"], row["completion_uid"]): row for row in runs.rollouts(uninterrupted) if row["advantage"]}
    assert found.keys() == trained.keys() and len(found) > STEPS
    for row in runs.metrics(uninterrupted):
        of_step = [key for key in found if key[0] == row["step"]]
        apart = [abs(a - b) for key in of_step for a, b in zip(found[key], trained[key]["logprobs"], strict=True)]
        assert sum(apart) / len(apart) == pytest.approx(row["train/logprob_diff"], rel=1e-4)


def logged(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0
