"""The files of so many ranks -> **what one of another number of ranks would have written** -> DeepSpeed's own loader.

ZeRO 1 and 2 keep the state of each parameter group as one flat vector, padded at its end and cut into equal partitions,
one per rank. A new rank reads those parts of the old partitions that lie in its own, from files that are mapped: all
ranks together read each byte once, and none holds more than its partition. ZeRO 0 keeps it whole. ZeRO 3 cuts every
parameter, which this does not undo.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_rl.errors import CheckpointError

ALIGNMENT = 2
"""DeepSpeed pads a group to a multiple of this for every rank."""
_STATES = re.compile(r"(.*zero_pp_rank_)(\d+)(_mp_rank_00_optim_states\.pt)")
MASTER, OPTIMIZER, PADDINGS, COUNTS = (
    "single_partition_of_fp32_groups",
    "base_optimizer_state",
    "group_paddings",
    "partition_count",
)
"""DeepSpeed's names of a rank's float32 weights, its optimizer's state, what is padding in them, and the ranks."""

Read = Callable[[Path], Any]


class OtherRanks:
    """Reads the files of a checkpoint as if `ranks` ranks had written it; DeepSpeed asks each rank's for its own."""

    def __init__(self, ranks: int, read: Read) -> None:
        """`read` gives the content of a file that is there, its tensors mapped."""
        self._ranks, self._read = ranks, read

    def __call__(self, path: Path) -> Any:
        """
        Raises:
            CheckpointError: a rank's file is missing.
        """
        if match := _STATES.fullmatch(path.name):
            return self._states(path.parent, int(match[2]))
        # The model's own state says for how many ranks it was saved.
        return self._read(path) | {"dp_world_size": self._ranks}

    def _states(self, folder: Path, rank: int) -> Any:
        contents = [self._read(file) for file in rank_files(folder)]
        saved = [content["optimizer_state_dict"] for content in contents]
        groups = range(len(saved[0][MASTER]))
        sizes = [sum(state[MASTER][group].numel() for state in saved) - _padding(saved, group) for group in groups]
        state = dict(saved[0])
        state[MASTER] = [cut([part[MASTER][g] for part in saved], sizes[g], self._ranks, rank) for g in groups]
        state[OPTIMIZER] = self._optimizer_state([part[OPTIMIZER] for part in saved], sizes, rank)
        state[PADDINGS] = [_padding_of(size, self._ranks, rank) for size in sizes]
        state[COUNTS] = [self._ranks for _ in groups] if isinstance(saved[0][COUNTS], list) else self._ranks
        return contents[0] | {"optimizer_state_dict": state}

    def _optimizer_state(self, states: Sequence[dict], sizes: Sequence[int], rank: int) -> dict[str, Any]:
        """Of the base optimizer; what is no partition, such as the step, is the same on all ranks."""
        found: dict[int, dict[str, Any]] = {}
        for group, values in states[0]["state"].items():
            found[group] = {}
            for name, value in values.items():
                parts = [state["state"][group][name] for state in states]
                is_partition = isinstance(value, Tensor) and value.dim() > 0
                found[group][name] = cut(parts, sizes[group], self._ranks, rank) if is_partition else deepcopy(value)
        return states[0] | {"state": found}


def rank_files(folder: Path) -> list[Path]:
    """The optimizer states in `folder`, in the order of their ranks."""
    found = {int(match[2]): file for file in folder.iterdir() if (match := _STATES.fullmatch(file.name))}
    if missing := sorted(set(range(max(found, default=-1) + 1)) - set(found)):
        raise CheckpointError(f"{folder}: the optimizer state of rank {missing[0]} is missing")
    return [found[rank] for rank in sorted(found)]


def cut(parts: Sequence[Tensor], size: int, ranks: int, rank: int) -> Tensor:
    """Partition `rank` of `ranks` of the vector whose first `size` elements `parts` hold end to end, padded with 0.

    Only the elements that lie in it are read.
    """
    each = _each(size, ranks)
    begin = rank * each
    found = torch.zeros(each, dtype=parts[0].dtype)
    offset = 0
    for part in parts:
        first, last = max(begin, offset), min(begin + each, size, offset + part.numel())
        if first < last:
            found[first - begin : last - begin] = part.flatten()[first - offset : last - offset]
        offset += part.numel()
    return found


def _each(size: int, ranks: int) -> int:
    return -(-size // (ALIGNMENT * ranks)) * ALIGNMENT


def _padding_of(size: int, ranks: int, rank: int) -> int:
    each = _each(size, ranks)
    return min(max((rank + 1) * each - size, 0), each)


def _padding(saved: Sequence[dict], group: int) -> int:
    """Padding that the saved float32 weights still hold: some engines strip it, and then the optimizer's are longer."""
    kept = sum(state[MASTER][group].numel() for state in saved)
    full = sum(_length_of_state(state[OPTIMIZER], group, state[MASTER][group].numel()) for state in saved)
    return sum(state[PADDINGS][group] for state in saved) if kept == full else 0


def _length_of_state(optimizer: dict, group: int, default: int) -> int:
    tensors = [value for value in optimizer["state"].get(group, {}).values() if isinstance(value, Tensor)]
    return max((tensor.numel() for tensor in tensors if tensor.dim() > 0), default=default)
