"""Optimizer and parameters in host memory: the same steps, and a node without room is refused before the first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.errors import CheckpointError, ConfigError
from pangu_rl.learner.weights.offload import offload_settings, offloaded_bytes
from tests.unit.learner.test_learner import PACKS, batch, build, model_path, weights_of

__all__ = ["model_path"]
pytestmark = pytest.mark.usefixtures("rendezvous")

CPU = {"optimizer": "cpu"}
BOTH = {"optimizer": "cpu", "parameters": "cpu"}


@pytest.mark.parametrize(
    ("stage", "offload", "dtype"),
    [
        (1, CPU, "float32"),
        (1, CPU, "bfloat16"),
        (2, CPU, "float32"),
        (3, CPU, "float32"),
        (3, {"parameters": "cpu"}, "float32"),
        (3, BOTH, "bfloat16"),
    ],
)
def test_the_steps_are_those_without_offload(model_path: Path, stage: int, offload: dict, dtype: str) -> None:
    """Two steps, of one pack and of two. float32 sums in another order at most: 1e-6 of weights around 0.2. In bf16 a
    sum that rounds the other way is a step of 2^-8 of the weight, 4e-3 of one."""
    steps = [batch(PACKS[0]), batch(*PACKS)]
    there, here = (build(model_path, stage=stage, dtype=dtype, offload=chosen) for chosen in (offload, {}))
    assert there.engine.zero_cpu_offload() == ("optimizer" in offload)
    found, expected = there.update(steps), here.update(steps)
    close = {"rel": 1e-5, "abs": 1e-6} if dtype == "float32" else {"rel": 1e-2, "abs": 1e-3}
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, **close)
    before = weights_of(here)
    for name, weight in weights_of(there).items():
        torch.testing.assert_close(weight, before[name], atol=1e-6 if dtype == "float32" else 4e-3, rtol=0, msg=name)


@pytest.mark.parametrize(("stage", "offload"), [(1, CPU), (3, BOTH)])
def test_a_reload_continues_to_the_bit(model_path: Path, tmp_path: Path, stage: int, offload: dict) -> None:
    first = build(model_path, stage=stage, dtype="bfloat16", offload=offload)
    first.update([batch(*PACKS)])
    first.save(tmp_path)
    expected = first.update([batch(*PACKS), batch(PACKS[1])])
    second = build(model_path, stage=stage, dtype="bfloat16", offload=offload)
    second.load(tmp_path)
    assert second.update([batch(*PACKS), batch(PACKS[1])]) == expected
    with pytest.raises(CheckpointError, match="saved with offload 'cpu', this run has 'none'"):
        build(model_path, stage=stage, dtype="bfloat16").load(tmp_path)


def test_what_is_chosen_reaches_deepspeed() -> None:
    assert offload_settings(LearnerConfig()) == {}
    learner = LearnerConfig(zero_stage=3, offload=BOTH)
    assert offload_settings(learner) == {
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "cpu", "pin_memory": True},
    }


@pytest.mark.parametrize(("stage", "name"), [(0, "optimizer"), (2, "parameters")])
def test_a_stage_that_keeps_them_whole_is_refused(stage: int, name: str) -> None:
    with pytest.raises(ValidationError, match=rf"offload.{name} is cpu and zero_stage is {stage}"):
        LearnerConfig(zero_stage=stage, offload={name: "cpu"})


def test_a_rank_needs_its_part(model_path: Path) -> None:
    """1,000 weights, 900 of them trained, over 4 ranks: (18 x 900 + 2 x 1,000) / 4 = 4,550 bytes."""
    learner = LearnerConfig(ranks=4, zero_stage=3, offload=BOTH)
    assert offloaded_bytes(learner, 900, 2000) == 4550


def test_a_node_without_room_is_refused_in_one_line(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Full:
        available, total = 2**20 // 8, 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    with pytest.raises(ConfigError, match=r"learner.offload keeps .* GiB of 1 ranks in the memory of node .*") as error:
        build(model_path, stage=3, offload=BOTH)
    assert "\n" not in str(error.value)
