"""The table of devices. Nothing outside this package names a device in its logic."""

from __future__ import annotations

from pangu_rl.accelerators.base import Accelerator
from pangu_rl.accelerators.cpu import CPU
from pangu_rl.accelerators.cuda import CUDA
from pangu_rl.accelerators.npu import NPU
from pangu_rl.errors import ConfigError

ACCELERATORS: dict[str, Accelerator] = {"npu": NPU, "cuda": CUDA, "cpu": CPU}
"""In the order of detection."""


def get_accelerator(name: str = "auto") -> Accelerator:
    """The device called `name`; `auto` takes the first of npu, cuda and cpu that works on this machine.

    A name is taken at its word: the driver of a cluster may run on a node without the device.

    Raises:
        ConfigError: the name is unknown.
    """
    if name == "auto":
        return next(accelerator for accelerator in ACCELERATORS.values() if accelerator.detect())
    if name not in ACCELERATORS:
        raise ConfigError(f"cluster.accelerator is {name!r}: one of auto, {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]


__all__ = ["ACCELERATORS", "Accelerator", "get_accelerator"]
