"""The loop of the supervised stages: which steps it takes, when it saves, where it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pangu_rl.checkpoint.manifest import Entry, check_files, entries_of
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.cluster.ray_runtime import Preemption
from pangu_rl.errors import CheckpointError, ConfigError, Preempted, RunError
from pangu_rl.loops.saving import Saving
from pangu_rl.loops.session import Run
from pangu_rl.loops.supervised.stage import train_stage
from pangu_rl.monitoring.phases import PhaseTimer


class Weights:
    """Learners whose weights are the number of steps that they have taken."""

    def __init__(self, disk_fails_at: int | None = None) -> None:
        self.steps = 0
        self.disk_fails_at = disk_fails_at
        self.profiled: list[tuple[int, Path]] = []

    def profile_next(self, folder: Path) -> None:
        self.profiled.append((self.steps, folder))

    def save(self, checkpoint: Path) -> None:
        (checkpoint / "steps").write_text(str(self.steps))
        self.entries = entries_of(checkpoint, {})
        self.disk_fails = self.steps == self.disk_fails_at

    def written(self) -> dict[str, Entry]:
        if self.disk_fails:
            raise CheckpointError("the disk is full")
        return self.entries

    def load(self, checkpoint: Path) -> None:
        self.steps = int((checkpoint / "steps").read_text())

    def check_files(self, checkpoint: Path, entries: Mapping[str, Entry]) -> None:
        check_files(checkpoint, entries)


@dataclass
class Counting:
    """A stage that consumes ten rows a step; SIGTERM comes during step `preempted_in`."""

    preempted_in: int | None = None
    fails_in: int | None = None
    learners: Weights = field(default_factory=Weights)
    taken: list[int] = field(default_factory=list)
    consumed: int = 0

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        if step == self.fails_in:
            raise RunError("a learner rank died")
        self.taken.append(step)
        self.learners.steps += 1
        self.consumed += 10
        run.preemption.requested = step == self.preempted_in
        return {"train/steps": float(self.learners.steps)}

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.consumed = state["consumed"]


def opened(folder: Path, every: int | None = None) -> Run:
    phases, store = PhaseTimer(), CheckpointStore(folder, keep=9)
    return Run(
        dir=folder,
        accelerator=Mock(),
        checkpoints=store,
        saving=Saving(store, every),
        sinks=Mock(),
        view=Mock(),
        phases=phases,
        watchdog=Mock(),
        preemption=Preemption(),
    )


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_it_saves_what_is_due_and_the_last_step(tmp_path: Path) -> None:
    run, stage = opened(tmp_path, every=2), Counting()
    assert train_stage(run, stage, 5) == {"train/steps": 5.0}
    assert stage.taken == [1, 2, 3, 4, 5]
    run.sinks.truncate_after.assert_called_once_with(0)
    assert saved(tmp_path) == ["step_000002", "step_000004", "step_000005"]


def test_it_goes_on_behind_the_newest_checkpoint_with_what_was_consumed(tmp_path: Path) -> None:
    train_stage(opened(tmp_path), Counting(), 3)
    run, stage = opened(tmp_path), Counting()
    assert train_stage(run, stage, 5) == {"train/steps": 5.0}
    assert (stage.taken, stage.consumed) == ([4, 5], 50)
    run.sinks.truncate_after.assert_called_once_with(3)
    assert train_stage(opened(tmp_path), Counting(), 5) == {}


def test_a_state_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    class Older(Counting):
        def state_dict(self) -> dict[str, Any]:
            return {"rows": 30}

    train_stage(opened(tmp_path), Older(), 3)
    with pytest.raises(CheckpointError, match=r"step_000003: written by another version.*'consumed'.*new trainer.run"):
        train_stage(opened(tmp_path), Counting(), 5)


def test_a_step_that_fails_is_not_saved_and_is_taken_again(tmp_path: Path) -> None:
    run = opened(tmp_path, every=2)
    with pytest.raises(RunError):
        train_stage(run, Counting(fails_in=4), 5)
    run.saving.settle()
    assert saved(tmp_path) == ["step_000002"]
    stage = Counting()
    train_stage(opened(tmp_path), stage, 5)
    assert (stage.taken, stage.consumed) == ([3, 4, 5], 50)


def test_a_state_that_does_not_fit_is_refused_before_the_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Counting, state: Mapping[str, Any]) -> None:
        raise ConfigError("other rows")

    train_stage(opened(tmp_path), Counting(), 1)
    monkeypatch.setattr(Counting, "load_state_dict", refuse)
    stage = Counting()
    with pytest.raises(ConfigError, match="other rows"):
        train_stage(opened(tmp_path), stage, 2)
    assert stage.learners.steps == 0


def test_a_preempted_step_is_saved_and_a_preempted_last_step_ends_the_stage(tmp_path: Path) -> None:
    stage = Counting(preempted_in=2)
    with pytest.raises(Preempted, match="checkpoint of step 2 written"):
        train_stage(opened(tmp_path), stage, 3)
    assert stage.taken == [1, 2] and saved(tmp_path) == ["step_000002"]
    stage = Counting(preempted_in=3)
    assert train_stage(opened(tmp_path), stage, 3) == {"train/steps": 3.0}
    assert stage.taken == [3]


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    """At the latest where the next one begins; that of the last step at the end."""
    stage = Counting(learners=Weights(disk_fails_at=2))
    with pytest.raises(CheckpointError, match="the disk is full"):
        train_stage(opened(tmp_path, every=2), stage, 9)
    assert stage.taken in ([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(CheckpointError, match="the disk is full"):
        train_stage(opened(tmp_path), Counting(learners=Weights(disk_fails_at=5)), 5)


def test_what_saving_costs_the_loop_and_takes_beside_it_is_logged(tmp_path: Path) -> None:
    run = opened(tmp_path, every=2)
    train_stage(run, Counting(), 4)
    rows = [call.args[1] for call in run.sinks.log.call_args_list]
    assert [("time/checkpoint" in row) for row in rows] == [False, False, True, False]
    assert "time/checkpoint_write" in run.saving.take()


def test_the_learners_are_told_before_a_step_that_is_to_be_profiled(tmp_path: Path) -> None:
    run, stage = opened(tmp_path), Counting()
    run.profile_steps = (2, 4)
    train_stage(run, stage, 4)
    assert stage.learners.profiled == [(step - 1, tmp_path / "profile" / f"step_{step}") for step in (2, 4)]
