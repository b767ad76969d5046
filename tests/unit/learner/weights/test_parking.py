"""A rank leaves its device and comes back: nothing is left there, and what is trained afterwards is the same."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.learner import Learner
from pangu_rl.learner.weights import offload
from pangu_rl.learner.weights.parking import Parking, tensors_in
from tests.unit.learner.builders import save_llama
from tests.unit.learner.test_learner import PACKS, batch, build, spec, weights_of

pytestmark = pytest.mark.usefixtures("rendezvous")
KEPT = {(0, "float32"): 1.0, (1, "bfloat16"): 14 / 18, (2, "bfloat16"): 1.0, (2, "float32"): 1.0, (3, "bfloat16"): 1.0}
"""Share of the bytes that has a copy: BF16_Optimizer alone keeps gradients, 4 bytes of 18 a weight, and of zeros."""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


def alive() -> int:
    """Bytes of all storages that Python can name and that a device could give back."""
    gc.collect()
    tensors = (
        value for value in gc.get_objects() if type(value) in (torch.Tensor, torch.nn.Parameter) and value.is_cpu
    )
    storages = {s._cdata: s.nbytes() for s in (t.untyped_storage() for t in tensors) if s.resizable()}
    return sum(storages.values())


@pytest.mark.parametrize(
    ("stage", "dtype"), [(0, "float32"), (1, "float32"), (1, "bfloat16"), (2, "bfloat16"), (3, "bfloat16")]
)
def test_training_goes_on_to_the_bit(model_path: Path, stage: int, dtype: str) -> None:
    learner, twin = (build(model_path, stage=stage, dtype=dtype) for _ in range(2))
    for one in (learner, twin):
        one.update([batch(*PACKS)])
    for _ in range(2):
        learner.to_host()
        with pytest.raises(AssertionError):
            learner.log_probs(PACKS)
        learner.to_device()
        assert learner.update([batch(*PACKS), batch(PACKS[1])]) == twin.update([batch(*PACKS), batch(PACKS[1])])
    before, after = weights_of(learner), weights_of(twin)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("stage", "dtype"), [(0, "float32"), (1, "bfloat16"), (2, "bfloat16"), (2, "float32"), (3, "bfloat16")]
)
def test_the_device_is_empty_meanwhile(model_path: Path, stage: int, dtype: str) -> None:
    """What stays alive are the copies themselves, on the host, and the few bytes of schedules and counters."""
    gc.collect()
    outside = alive()
    learner = build(model_path, stage=stage, dtype=dtype)
    learner.update([batch(*PACKS)])
    there = alive() - outside
    moved = learner.to_host()
    copies = sum(copy.nbytes for copy in learner._parking._copies.values())
    left = alive() - outside - copies
    assert moved > 0.95 * there, (moved, there)
    assert left < 0.05 * there, (left, there)
    assert copies == pytest.approx(moved * KEPT[stage, dtype], rel=0.05), copies / moved


def test_the_start_that_the_kl_is_to_leaves_too(model_path: Path) -> None:
    described = spec(model_path, stage=1, dtype="bfloat16")
    learner = Learner(replace(described, algorithm=GrpoAlgorithmConfig(kl_weight=0.1)))
    learner.update([batch(*PACKS)])
    held = sum(p.nbytes for p in learner.reference.parameters())
    without = build(model_path, stage=1, dtype="bfloat16")
    without.update([batch(*PACKS)])
    assert learner.to_host() - without.to_host() == pytest.approx(held, rel=0.02)
    assert all(p.untyped_storage().nbytes() == 0 for p in learner.reference.parameters())
    for one in (learner, without):
        one.to_device()
    assert learner.update([batch(*PACKS)])[0]["kl_reference"] > 0


def test_a_storage_is_parked_once_with_all_its_views_and_zeros_have_no_copy() -> None:
    parking = Parking(get_accelerator("cpu"), torch.device("cpu"))
    flat, zeros, lent = torch.arange(8.0), torch.zeros(4), torch.frombuffer(bytearray(16), dtype=torch.float32)
    views = [flat[:3], flat[3:], zeros, lent]
    assert parking.park(views) == 32 + 16
    assert flat.untyped_storage().nbytes() == 0 and lent.untyped_storage().nbytes() == 16
    assert [copy.nbytes for copy in parking._copies.values()] == [32]
    parking.fetch()
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 6, 7] and views[1].tolist() == [3, 4, 5, 6, 7]
    assert zeros.tolist() == [0, 0, 0, 0]
    held = list(parking._copies.values())
    parking.park(views)
    assert [copy is kept for copy, kept in zip(parking._copies.values(), held, strict=True)] == [True]


def test_a_host_without_room_is_refused_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        memory_stats = staticmethod(lambda: {"free": 2**20})

    monkeypatch.setattr(offload, "get_accelerator", lambda name: Full)
    monkeypatch.setattr(offload.dist, "get_world_size", lambda: 1)
    parking = Parking(get_accelerator("cpu"), torch.device("cpu"))
    weights = torch.ones(2**20)
    with pytest.raises(ConfigError, match=r"parks 0\.00391 GiB .* has 0\.000977 GiB free"):
        parking.park([weights])
    assert weights.sum() == 2**20


def test_tensors_are_found_in_gradients_attributes_and_cycles() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad, weight.part = torch.ones(2), torch.ones(4)
    adam = torch.optim.AdamW([weight])
    adam.state[weight] = {"moments": [torch.ones(5)]}
    adam.me = adam
    found = [tensor.numel() for tensor in tensors_in({"optimizer": adam}, object())]
    assert sorted(found) == [2, 2, 4, 5]
