"""Matrix products of a device -> **the FLOP/s that it reaches at most**, what a step's speed is a share of."""

from __future__ import annotations

import time

import torch

from pangu_rl.accelerators import Accelerator

DEVICE_SIDE, HOST_SIDE = 8192, 2048
"""Of the matrices: large enough that nothing but the product counts (with 1024 a CPU with AMX shows 60 % of it)."""
SECONDS = 0.25
"""The best of all products within this time is taken, at least of three."""


def matmul_peak(accelerator: Accelerator, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product in `dtype` on this rank's device, with the threads that it has.

    The ranks of a machine without devices measure at once and share its cores, as they do in a step.
    """
    side = HOST_SIDE if accelerator.ray_resource is None else DEVICE_SIDE
    # A generator of its own: training draws the numbers that it would have drawn.
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(side, side, generator=generator).to(device, dtype) for _ in range(2))
    best, runs, end = float("inf"), 0, time.perf_counter() + SECONDS
    while runs < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        left @ right
        accelerator.synchronize()
        best, runs = min(best, time.perf_counter() - begun), runs + 1
    return 2 * side**3 / best
