"""What a rank keeps on its device -> **host memory, and back to the bit**, while another process has the device.

A storage is emptied where it stands and filled again later, so every view of it is right afterwards, also those that
only DeepSpeed knows of; that holds for every ZeRO stage, and on a CPU the same lines run. Nothing may read a tensor
meanwhile. What is all zeros, as gradients are after a step, comes back without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pangu_rl.accelerators import Accelerator
from pangu_rl.accelerators.storage import contents, storages_of
from pangu_rl.learner.weights.offload import check_host_memory

WALKED = ("deepspeed.", "torch.optim.")
"""Modules whose objects, and those of classes derived from theirs, hold tensors of an engine in their attributes."""


@dataclass(slots=True)
class _Parked:
    storage: torch.UntypedStorage
    size: int
    copy: Tensor | None
    """uint8 [size] in host memory; None of zeros."""


@dataclass(slots=True)
class Parking:
    """The places of one rank. Host memory that was taken once is kept, since to pin it takes longer than to fill it."""

    accelerator: Accelerator
    device: torch.device
    _parked: list[_Parked] = field(default_factory=list)
    _copies: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    @property
    def taken(self) -> bool:
        """Whether the tensors are in host memory now."""
        return bool(self._parked)

    def park(self, tensors: Iterable[Tensor]) -> int:
        """Empty the storages behind `tensors` that lie on the device; returns their bytes. Collective.

        Raises:
            ConfigError: a node's memory does not hold those of its ranks.
        """
        assert not self._parked, "parked already"
        storages = {storage._cdata: storage for storage in storages_of(tensors, self.device)}
        kept = {key: storage for key, storage in storages.items() if bool(contents(storage).any())}
        if not self._copies:
            needed = sum(storage.nbytes() for storage in kept.values())
            check_host_memory(needed, "rollout.placement shared parks")
        self._copies = {(key, s.nbytes()): self._place(key, s.nbytes()) for key, s in kept.items()}
        for key, storage in storages.items():
            copy = self._copies.get((key, storage.nbytes()))
            if copy is not None:
                copy.copy_(contents(storage), non_blocking=True)
            self._parked.append(_Parked(storage, storage.nbytes(), copy))
        self.accelerator.synchronize()
        for parked in self._parked:
            parked.storage.resize_(0)
        self.accelerator.empty_cache()
        return sum(parked.size for parked in self._parked)

    def fetch(self) -> None:
        """Fill the storages again."""
        for parked in self._parked:
            parked.storage.resize_(parked.size)
            if parked.copy is None:
                contents(parked.storage).zero_()
            else:
                contents(parked.storage).copy_(parked.copy, non_blocking=True)
        self.accelerator.synchronize()
        self._parked = []

    def _place(self, key: int, size: int) -> Tensor:
        pinned = self.accelerator.ray_resource is not None
        kept = self._copies.get((key, size))
        return torch.empty(size, dtype=torch.uint8, pin_memory=pinned) if kept is None else kept


def tensors_in(*roots: Any) -> Iterator[Tensor]:
    """Every tensor in containers and attributes below `roots`, the gradients and attributes of tensors included.

    Of objects only those of WALKED are opened, so a root may point to anything.
    """
    seen: set[int] = set()
    left = list(roots)
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
            left += [value.grad, *vars(value).values()] if value.is_leaf else vars(value).values()
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            left += value
        elif any(base.__module__.startswith(WALKED) for base in type(value).__mro__) and hasattr(value, "__dict__"):
            left += vars(value).values()
