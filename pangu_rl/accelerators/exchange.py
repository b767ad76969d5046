"""A block for every rank -> **the blocks that every rank had for this one**, differentiable: an all-to-all."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def exchange_blocks(blocks: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[s, ...], block r being for rank r of the group -> [s, ...], block r being what rank r had for this one.

    Its own inverse, so the gradients go back the same way.
    """
    return _Exchange.apply(blocks, group)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        received = torch.empty_like(blocks, memory_format=torch.contiguous_format)
        dist.all_to_all_single(received, blocks.contiguous(), group=group)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return exchange_blocks(gradient, ctx.group), None
