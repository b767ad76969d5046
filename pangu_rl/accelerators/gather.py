"""Rows of every rank -> **all rows on every rank**, differentiable: what the ranks share of a computation.

Ranks may have different numbers of rows, none included. Letters: N rows of a rank, S rows of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(
    rows: Tensor, counts: Sequence[int], group: dist.ProcessGroup | None = None, *, partial: bool = True
) -> Tensor:
    """`rows` [N, ...] of each rank, one rank after the other -> [S, ...] on every rank; `counts` are all ranks' N.

    What follows may be `partial`: each rank goes on with its own part of a computation whose results are added up, and
    the gradient of a row is the sum over the ranks. Or it is the same on every rank (`partial` False), the gradients
    are copies of each other, and a rank keeps that of its own rows.

    Raises:
        ValueError: `rows` are not as many as `counts` says of this rank.
    """
    if len(counts) == 1:
        return rows
    return _GatherRows.apply(rows, tuple(counts), group, partial)


def gather_counts(count: int, device: torch.device | str, group: dist.ProcessGroup | None = None) -> list[int]:
    """Every rank's `count`, for `gather_rows`."""
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return [count]
    own = torch.tensor([count], device=device)
    found = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, own, group=group)
    return torch.cat(found).tolist()


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, counts: tuple[int, ...], group: dist.ProcessGroup | None, partial: bool
    ) -> Tensor:
        rank = dist.get_rank(group)
        if len(rows) != counts[rank]:
            raise ValueError(f"rank {rank} has {len(rows)} rows, the others were told {counts[rank]}")
        ctx.counts, ctx.rank, ctx.group, ctx.partial = counts, rank, group, partial
        # Not every backend gathers pieces of different sizes.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        pieces = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(pieces, padded, group=group)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.partial:
            gradient = gradient.contiguous().clone()
            dist.all_reduce(gradient, group=ctx.group)
        return gradient.split(ctx.counts)[ctx.rank], None, None, None
