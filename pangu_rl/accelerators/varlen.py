"""Attention within segments for devices without a kernel of their own: segments of one length make one SDPA call."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def sdpa_by_length(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """softmax(scale * q k^T) v within each segment; one SDPA call for all segments of a length.

    query, key, value: [P, H, D]; lengths: tokens of each segment in order, one or more, P in all. Returns [P, H, D].
    """
    if len(set(lengths)) == 1:
        return _attend(query, key, value, lengths[0], scale)
    sizes, tokens, *orders = _by_length(lengths)
    order, inverse = (torch.from_numpy(indices).to(query.device) for indices in orders)
    moved = (_Permute.apply(tensor, order, inverse).split(tokens) for tensor in (query, key, value))
    parts = [_attend(*group, size, scale) for size, *group in zip(sizes, *moved, strict=True)]
    return _Permute.apply(torch.cat(parts), inverse, order)


def _attend(query: Tensor, key: Tensor, value: Tensor, size: int, scale: float) -> Tensor:
    folded = (tensor.unflatten(0, (-1, size)).transpose(1, 2) for tensor in (query, key, value))
    return scaled_dot_product_attention(*folded, scale=scale).transpose(1, 2).flatten(0, 1)


@lru_cache(maxsize=16)  # every layer of a forward pass asks for the same one or two
def _by_length(lengths: tuple[int, ...]) -> tuple[list[int], list[int], np.ndarray, np.ndarray]:
    """Distinct lengths, tokens of each, int64 [P] the tokens sorted by their segment's length, and the way back."""
    sizes, counts = np.unique(lengths, return_counts=True)
    order = np.argsort(np.repeat(lengths, lengths), kind="stable")
    return sizes.tolist(), (sizes * counts).tolist(), order, np.argsort(order)


class _Permute(torch.autograd.Function):
    """Rows in another order; plain indexing does not know that no row is taken twice and sums one by one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows[order]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad[inverse], None, None
