"""A function on every rank of a small gloo group, each in a process of its own; what they return, by rank."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from pangu_rl.accelerators.collective import free_port

PATIENCE_S = 600.0


def on_ranks(ranks: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """`function(rank, ranks, *arguments)` must be importable; its results come back through files in `folder`. None
    outlives the call: where one fails, or hangs, all are ended."""
    arguments = (ranks, free_port(), function, folder, arguments)
    started = torch.multiprocessing.spawn(_run, arguments, nprocs=ranks, join=False)
    until = time.monotonic() + PATIENCE_S
    try:
        while not started.join(timeout=1.0):
            assert time.monotonic() < until, f"{function.__name__} on {ranks} ranks takes more than {PATIENCE_S:g} s"
    finally:
        for process in started.processes:
            process.kill()
    return [torch.load(folder / f"rank_{rank}_of_{ranks}.pt", weights_only=True) for rank in range(ranks)]


def _run(rank: int, ranks: int, port: int, function: Callable[..., Any], folder: Path, arguments: tuple) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_ACCELERATOR="cpu")
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    try:
        torch.save(function(rank, ranks, *arguments), folder / f"rank_{rank}_of_{ranks}.pt")
    finally:
        dist.destroy_process_group()
