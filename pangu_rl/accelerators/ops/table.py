"""The table of fused operations: name -> **a kernel per device, a plain-torch reference** -> whoever calls it.

A kernel says of its arguments what it cannot take, and of the machine why it is not there. The choice is made once for
every kind of arguments (devices, dtypes, last axes) and logged; calls that the reference computes on a device that has
a kernel are counted, so that a slow path is seen in the metrics and not guessed at.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pangu_rl.accelerators.native import BUILD, load_native

OPERATIONS: dict[str, Operation] = {}
"""Every operation by its name."""
FALLBACKS: Counter[str] = Counter()
"""Calls that plain torch computed on a device that has a kernel for the operation, by its name."""

COMPILED = (torch.float32, torch.bfloat16)
"""Dtypes of the compiled kernels."""
HALVES = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of the kernels that devices bring."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One device's way to compute an operation."""

    name: str
    call: Callable[..., Any]
    """The arguments and the result of the reference, with gradients where it has them."""
    refuses: Callable[..., str | None]
    """(the arguments) -> why this kernel cannot take them, or None; decided by devices, dtypes and last axes alone."""
    missing: Callable[[], str | None] = lambda: None
    """Why this machine does not have the kernel, or None."""


class Operation:
    """A function with a kernel for some devices."""

    def __init__(self, name: str, reference: Callable[..., Any], kernels: dict[str, Kernel]) -> None:
        """`kernels` by torch's device type."""
        self.name = name
        self.reference = reference
        self.kernels = kernels
        self._chosen: dict[Hashable, Kernel | None] = {}
        OPERATIONS[name] = self

    def __call__(self, *args: Any) -> Any:
        kind = tuple(map(_kind, args))
        if kind not in self._chosen:
            self._chosen[kind] = self._choose(*args)
        kernel = self._chosen[kind]
        if kernel is not None:
            return kernel.call(*args)
        if _device(args) in self.kernels:
            FALLBACKS[self.name] += 1
        return self.reference(*args)

    def _choose(self, *args: Any) -> Kernel | None:
        device = _device(args)
        kernel = self.kernels.get(device)
        reason = f"{device} has no kernel" if kernel is None else kernel.missing() or kernel.refuses(*args)
        dtype = next(x.dtype for x in args if isinstance(x, Tensor))
        by = kernel.name if kernel is not None and reason is None else f"plain torch ({reason})"
        _log.info("%s on %s, %s: %s", self.name, device, str(dtype).removeprefix("torch."), by)
        return kernel if reason is None else None


def take_fallbacks() -> int:
    """How many `FALLBACKS` there were since the last time."""
    total = FALLBACKS.total()
    FALLBACKS.clear()
    return total


def uncompiled() -> str | None:
    """Why there are no compiled kernels on this machine, or None."""
    return None if load_native() else f"not compiled: {BUILD}"


def unlike(*tensors: Tensor, dtypes: tuple[torch.dtype, ...]) -> str | None:
    """Why `tensors` are not all of one of `dtypes` on one device; None if they are."""
    first = tensors[0]
    if first.dtype not in dtypes:
        return f"{str(first.dtype).removeprefix('torch.')} is none of its dtypes"
    if any(x.dtype != first.dtype or x.device.type != first.device.type for x in tensors):
        return "dtypes or devices differ"
    return None


def _kind(x: Any) -> Hashable:
    """A tuple says how rows are divided, which is another matter at every call."""
    if isinstance(x, Tensor):
        return x.device.type, x.dtype, x.shape[-1:]
    return tuple if isinstance(x, tuple) else x


def _device(args: tuple[Any, ...]) -> str:
    return next(x.device.type for x in args if isinstance(x, Tensor))
