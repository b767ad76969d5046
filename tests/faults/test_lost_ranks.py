"""A rank that dies in mid-update, in every stage that learns from given rows: **a restart, nothing else changes**."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.builders import build_tiny_model, build_tiny_vl_model
from tests.e2e import runs, test_checkpoints, test_dpo, test_pretrain
from tests.e2e.test_resume import logged
from tests.faults import losses
from tests.faults.alike import PATIENCE_S
from tests.unit.pretrain.train import test_vision
from tests.unit.pretrain.train.builders import write_rows

pytestmark = pytest.mark.slow


def sft(folder: Path) -> Path:
    return test_checkpoints.write_config(folder, build_tiny_model(folder / "tiny"))


def dpo(folder: Path) -> Path:
    return test_dpo.write_config(folder, build_tiny_vl_model(folder / "tiny"))


def pretrain(folder: Path) -> Path:
    """Packed on the way; the loaders are a step ahead when the rank dies."""
    write_rows(folder, count=36)
    return test_pretrain.write(test_pretrain.of(folder, build_tiny_vl_model(folder / "tiny", dtype="float32")))


def vit(folder: Path) -> Path:
    test_vision.write_pictures(folder)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(test_vision.stage(folder).model_dump(mode="json")))
    return path


STAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "sft": (sft, "LearnerActor"),
    "dpo": (dpo, "LearnerActor"),
    "pretrain": (pretrain, "LearnerActor"),
    "vit": (vit, "VisionActor"),
}
"""Command -> what writes its configuration, and its ranks."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_rank_that_is_killed_in_mid_update_changes_nothing(tmp_path: Path, stage: str) -> None:
    """SIGKILL to one of two ranks once step 3 is logged, with checkpoints of every second step."""
    write, actor = STAGES[stage]
    config, whole, lost = write(tmp_path), tmp_path / "whole", tmp_path / "lost"
    two_ranks = ("learner.ranks=2", "trainer.checkpoint_every=2", "trainer.keep_checkpoints=9")
    done = runs.run(stage, config, f"run_dir={whole}", *two_ranks)
    assert done.returncode == 0, done.stderr

    command = runs.command(stage, config, f"run_dir={lost}", *two_ranks)
    driver = subprocess.Popen(command, cwd=runs.REPO, stderr=subprocess.PIPE, text=True)
    losses.hit(driver, losses.Loss(f"ray::{actor}.update"), when=lambda: logged(lost) >= 3)
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, errors
    assert "; restart 1 of 3, from the checkpoint of step" in (lost / "run.log").read_text()

    rows = list(map(runs.timeless, runs.metrics(lost)))
    assert rows == list(map(runs.timeless, runs.metrics(whole)))
    ours, theirs = runs.weights(lost, len(rows)), runs.weights(whole, len(rows))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any(not torch.equal(tensor, theirs[name]) for name, tensor in runs.weights(whole, 2).items())
