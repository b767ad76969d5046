"""A checkpoint of so many ranks -> **the same state, cut for another number of ranks** -> DeepSpeed's own loader.

ZeRO 1 and 2 keep the state of each parameter group as one flat vector, padded at its end and cut into equal partitions,
one per rank. Here they are joined, the padding goes, and they are cut anew. ZeRO 0 keeps it whole. ZeRO 3 cuts every
parameter, which this does not undo.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
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

Load = Callable[[Path], Any]


def repartition(source: Path, target: Path, ranks: int, load: Load) -> None:
    """Write the engine's folder `source` as the new folder `target`, as `ranks` ranks would have written it.

    `load` reads one of its files.

    Raises:
        CheckpointError: a file is missing.
    """
    target.mkdir(parents=True)
    for file in source.iterdir():
        if not _STATES.fullmatch(file.name):
            _copy(file, target, ranks, load)
    files = _rank_files(source)
    if not files:
        return
    saved = [load(file)["optimizer_state_dict"] for file in files]
    whole = load(files[0])
    prefix, _, suffix = _STATES.fullmatch(files[0].name).groups()
    groups = range(len(saved[0][MASTER]))
    sizes = [sum(state[MASTER][group].numel() for state in saved) - _padding(saved, group) for group in groups]
    for rank in range(ranks):
        state = dict(saved[0])
        masters = [_cut([part[MASTER][g] for part in saved], sizes[g], ranks)[rank] for g in groups]
        state[MASTER] = [master.clone() for master in masters]
        state[OPTIMIZER] = _optimizer_state([part[OPTIMIZER] for part in saved], sizes, ranks, rank)
        state[PADDINGS] = [_padding_of(size, ranks, rank) for size in sizes]
        state[COUNTS] = [ranks for _ in groups] if isinstance(saved[0][COUNTS], list) else ranks
        torch.save(whole | {"optimizer_state_dict": state}, target / f"{prefix}{rank}{suffix}")


def _rank_files(source: Path) -> list[Path]:
    found = {int(match[2]): file for file in source.iterdir() if (match := _STATES.fullmatch(file.name))}
    if missing := sorted(set(range(max(found, default=-1) + 1)) - set(found)):
        raise CheckpointError(f"{source}: the optimizer state of rank {missing[0]} is missing")
    return [found[rank] for rank in sorted(found)]


def _copy(file: Path, target: Path, ranks: int, load: Load) -> None:
    """The model's own state says for how many ranks it was saved."""
    if not file.name.endswith("model_states.pt"):
        shutil.copy(file, target)
        return
    torch.save(load(file) | {"dp_world_size": ranks}, target / file.name)


def _optimizer_state(states: Sequence[dict], sizes: Sequence[int], ranks: int, rank: int) -> dict[str, Any]:
    """The base optimizer's state of one new rank; what is no partition, such as the step, is the same on all."""
    cut: dict[int, dict[str, Any]] = {}
    for group, values in states[0]["state"].items():
        cut[group] = {}
        for name, value in values.items():
            parts = [state["state"][group][name] for state in states]
            is_partition = isinstance(value, Tensor) and value.dim() > 0
            cut[group][name] = _cut(parts, sizes[group], ranks)[rank].clone() if is_partition else value
    return states[0] | {"state": cut}


def _cut(parts: Sequence[Tensor], size: int, ranks: int) -> tuple[Tensor, ...]:
    flat = torch.cat([part.flatten() for part in parts])[:size]
    each = _each(size, ranks)
    return torch.nn.functional.pad(flat, (0, each * ranks - size)).split(each)


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
