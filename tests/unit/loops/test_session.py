"""What a run is refused for before it starts, and speeds of a step, by hand."""

from __future__ import annotations

import re
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pangu_rl.checkpoint import disk
from pangu_rl.cluster import ray_runtime
from pangu_rl.config.load import checked
from pangu_rl.config.stages import SftConfig
from pangu_rl.errors import CheckpointError
from pangu_rl.loops import session
from pangu_rl.loops.session import Run, open_run, with_speeds


def test_speeds_are_those_of_all_updates_of_the_step() -> None:
    """Two updates of 300 tokens and 4e12 operations on average in 10 s: 60 tokens/s, 0.8 TFLOP/s of a peak of 2."""
    row = {"train/tokens": 300.0, "train/tflop": 4.0, "train/updates": 2.0, "time/train": 10.0}
    speeds = with_speeds(row, peak_flops=2e12)
    assert speeds["speed/train_tokens_per_s"] == pytest.approx(60)
    assert speeds["speed/train_tflops"] == pytest.approx(0.8)
    assert speeds["speed/mfu"] == pytest.approx(0.4)


def test_a_stage_of_one_update_does_not_say_so() -> None:
    row = {"train/tokens": 300.0, "train/tflop": 4.0, "time/train": 10.0}
    assert with_speeds(row, 4e12)["speed/mfu"] == pytest.approx(0.1)
    assert "speed/mfu" not in with_speeds(row)
    assert with_speeds({"train/updates": 0.0, "time/train": 1.0}, 4e12) == {"train/updates": 0.0, "time/train": 1.0}


def test_rollouts_have_their_own_phase() -> None:
    row = {"response/tokens": 500.0, "time/rollout": 2.0}
    assert with_speeds(row) == row | {"speed/rollout_tokens_per_s": 250.0}


def test_rollouts_that_go_on_beside_training_are_not_as_fast_as_the_wait_for_them_is_short() -> None:
    """500 tokens in a step of 5 s, of which the learner waited 0.001 s for answers."""
    row = {"response/tokens": 500.0, "time/rollout": 0.001, "time/train": 4.0, "time/sync": 0.999}
    assert with_speeds(row | {"rollout/staleness_max": 2.0})["speed/rollout_tokens_per_s"] == pytest.approx(100.0)
    assert with_speeds(row | {"rollout/staleness_max": 0.0})["speed/rollout_tokens_per_s"] == pytest.approx(5e5)


def test_the_wait_for_data_is_a_share_of_data_and_training():
    """1 s of 4 s; a phase of another kind, such as a checkpoint, is no part of it."""
    row = {"time/data": 1.0, "time/train": 3.0, "time/checkpoint": 9.0}
    assert with_speeds(row)["data/wait_share"] == 0.25
    assert with_speeds(row | {"train/tokens": 100.0})["speed/train_tokens_per_s"] == 25.0
    assert "data/wait_share" not in with_speeds({"time/train": 3.0})


def test_a_run_whose_first_checkpoint_has_no_room_is_refused_before_ray_starts(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(ray_runtime, "session", lambda cluster: pytest.fail("Ray was started"))
    tree = {
        "model": {"path": str(tiny_model)},
        "data": {"train": "rows.jsonl"},
        "trainer": {"run_dir": str(tmp_path / "run"), "steps": 1},
    }
    says = (
        re.escape(f"{tmp_path}/run/checkpoints: the first checkpoint needs some ")
        + r"[\d,]+ bytes and 1,000 are free; "
    )
    with (
        pytest.raises(CheckpointError, match=says + "make room, or take another trainer.run_dir"),
        open_run(checked(SftConfig, tree, "test"), "sft"),
    ):
        pass


def test_checkpoints_are_due_by_the_trainers_steps_and_seconds(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runtime, "session", lambda cluster: nullcontext())
    monkeypatch.setattr(session, "require_room", lambda *_: None)

    def due(name: str, **trainer: float | None) -> list[int]:
        tree = {
            "model": {"path": str(tiny_model)},
            "data": {"train": "rows.jsonl"},
            "trainer": {"run_dir": str(tmp_path / name), "steps": 6, "checkpoint_every": 3} | trainer,
            "monitoring": {"tensorboard": False},
        }
        with open_run(checked(SftConfig, tree, "test"), "sft") as run:
            return [step for step in range(1, 7) if run.saving.is_due(step)]

    assert due("by steps") == [3, 6], "half an hour is not over"
    assert due("by both", checkpoint_every_s=1e-9) == [1, 2, 3, 4, 5, 6]


def test_a_note_is_told_once_and_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The terminal's handler prints what is logged as a warning: a note that were one would stand there twice."""
    told = SimpleNamespace(view=SimpleNamespace(console=Console(file=StringIO(), width=20)))
    with caplog.at_level("INFO"):
        Run.say_each(told, ["rows.jsonl: its rows are read as [trl]"])
    assert told.view.console.file.getvalue() == "rows.jsonl: its rows are read as [trl]\n"
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "rows.jsonl: its rows are read as [trl]")
    ]
