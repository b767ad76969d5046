"""A function on every rank of a small gloo group, each in a process of its own; what they return, by rank."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from pangu_rl.accelerators.collective import free_port


def on_ranks(ranks: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """`function(rank, ranks, *arguments)` must be importable; its results come back through files in `folder`."""
    torch.multiprocessing.spawn(_run, (ranks, free_port(), function, folder, arguments), nprocs=ranks)
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
