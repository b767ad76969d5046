"""The actor around a rank of the vision-only stages hands on which device is its own."""

from __future__ import annotations

import pytest

from pangu_rl.accelerators.collective import meeting_at
from pretrain.train.vision import actor


def test_the_learner_is_built_on_the_index_of_the_actors_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in meeting_at("", 0):
        monkeypatch.setenv(name, "")  # as it was before, when the test is through
    monkeypatch.setattr(actor, "take_device", lambda accelerator: {"npu": 3}[accelerator.name])
    monkeypatch.setattr(actor, "VisionLearner", lambda *arguments: arguments)
    monkeypatch.setattr(actor, "PictureFile", str)
    monkeypatch.setattr(actor, "BatchReader", lambda *arguments: arguments)
    rank = actor.VisionActor("config", "npu", 1, actor.StagePictures("files", "path"))
    rank.start("localhost", 1)
    assert rank._learner == ("config", "npu", 1, ("config", "files", "path"), 3)
