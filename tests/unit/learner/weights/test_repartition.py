"""Partitions cut anew: against joining and cutting everything, and by what is read of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pangu_rl.errors import CheckpointError
from pangu_rl.learner.weights.repartition import OtherRanks, cut, rank_files

ELEMENTS = 6_000_001
VECTORS = 3
EDGE = 2**21
"""Bytes that the kernel maps at once around one that is touched, at most."""


@pytest.mark.parametrize("size", [1, 7, 8, 64, 1001])
@pytest.mark.parametrize(("before", "after"), [(1, 4), (2, 3), (4, 2), (3, 8), (8, 1)])
def test_the_cuts_are_those_of_the_joined_vector(size: int, before: int, after: int) -> None:
    """Partitions are equal, of even length, and padded behind the end of the vector; old padding is no part of it."""
    vector = torch.randn(size)
    each = -(-size // (2 * before)) * 2
    parts = torch.nn.functional.pad(vector, (0, each * before - size), value=9.0).split(each)
    found = [cut(parts, size, after, rank) for rank in range(after)]
    assert len({part.numel() for part in found}) == 1 and found[0].numel() % 2 == 0
    joined = torch.cat(found)
    assert torch.equal(joined[:size], vector)
    assert not joined[size:].any()


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


def save_ranks(folder: Path, ranks: int) -> torch.Tensor:
    """As ZeRO 1 does: one group, its padding stripped from the weights of the last rank alone."""
    vector = torch.arange(ELEMENTS, dtype=torch.float32)
    each = -(-ELEMENTS // (2 * ranks)) * 2
    for rank in range(ranks):
        own = vector[rank * each : (rank + 1) * each].clone()
        padding = each - own.numel()
        moments = torch.nn.functional.pad(own, (0, padding))
        state = {"exp_avg": moments + 1, "exp_avg_sq": moments + 2, "step": torch.tensor(5.0)}
        states = {
            "single_partition_of_fp32_groups": [own],
            "base_optimizer_state": {"state": {0: state}, "param_groups": [{"lr": 0.1}]},
            "group_paddings": [padding],
            "partition_count": [ranks],
        }
        torch.save({"optimizer_state_dict": states}, file_of(folder, rank))
    return vector


def resident(folder: Path) -> int:
    """Bytes of files in `folder` that this process has touched through its mappings."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            counts = str(folder) in line
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 3)])
def test_all_ranks_together_read_each_byte_once(tmp_path: Path, before: int, after: int) -> None:
    """Each new rank maps the old files afresh; the bytes that it touches are counted. A joining of everything would
    touch all of them in every rank: `after` times the state."""
    vector = save_ranks(tmp_path, before)
    whole = VECTORS * vector.nbytes
    touched = []
    for rank in range(after):
        mapped: list[Any] = []

        def read(path: Path, mapped: list[Any] = mapped) -> Any:
            mapped.append(torch.load(path, weights_only=True, mmap=True))
            return mapped[-1]

        state = OtherRanks(after, read)(file_of(tmp_path, rank))["optimizer_state_dict"]
        touched.append(resident(tmp_path))
        [weights], moments = state["single_partition_of_fp32_groups"], state["base_optimizer_state"]["state"][0]
        length, begin = weights.numel(), rank * weights.numel()
        kept = vector[begin : begin + length].numel()
        assert torch.equal(weights[:kept], vector[begin : begin + length])
        assert torch.equal(moments["exp_avg"][:kept], vector[begin : begin + length] + 1)
        assert torch.equal(moments["exp_avg_sq"][:kept], vector[begin : begin + length] + 2)
        assert (state["group_paddings"], state["partition_count"], moments["step"]) == ([length - kept], [after], 5)
    edges = 2 * VECTORS * EDGE
    assert max(touched) < whole / after + edges < 0.6 * whole
    assert whole < sum(touched) < whole + after * edges


def test_a_missing_rank_is_named(tmp_path: Path) -> None:
    save_ranks(tmp_path, 3)
    file_of(tmp_path, 1).unlink()
    with pytest.raises(CheckpointError, match="the optimizer state of rank 1 is missing"):
        rank_files(tmp_path)
