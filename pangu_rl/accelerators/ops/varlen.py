"""Attention within segments of a row, not causal: what a tower asks that runs over pictures laid end to end.

The reference makes one SDPA call of all segments of a length. Letters: P rows, H heads, D head size.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pangu_rl.accelerators.ops.table import HALVES, Kernel, Operation, unlike

MOST_SEGMENTS = 1024
"""That one call of `npu_fusion_attention` takes; a pack of 24,576 patches has 1,536 windows."""
LONGEST_HEAD = 768
"""That `npu_fusion_attention` takes."""


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


def _flash(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """torch's flash attention over cumulative lengths on the device. Not yet run on hardware."""
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = _cumulative(lengths, query.device), max(lengths)
    return varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale)


@lru_cache(maxsize=16)
def _cumulative(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 [N + 1] on `device`, from 0."""
    with torch.inference_mode(False):  # kept for calls that autograd follows, whoever asks first
        return torch.tensor((0, *accumulate(lengths)), dtype=torch.int32, device=device)


def _npu_fusion(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """The fused kernel in its layout TND, which takes cumulative lengths from the host, without the leading 0."""
    calls = [lengths[first : first + MOST_SEGMENTS] for first in range(0, len(lengths), MOST_SEGMENTS)]
    rows = [sum(call) for call in calls]
    outs = []
    for call, *part in zip(calls, *(x.split(rows) for x in (query, key, value)), strict=True):
        ends = list(accumulate(call))
        outs.append(
            torch.ops.npu.npu_fusion_attention(
                *part, query.shape[1], "TND", scale=scale, actual_seq_qlen=ends, actual_seq_kvlen=ends
            )[0]
        )
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _flash_refuses(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> str | None:
    return unlike(query, key, value, dtypes=(torch.bfloat16, torch.float16))


def _npu_refuses(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> str | None:
    if query.shape[-1] > LONGEST_HEAD:
        return f"heads of {query.shape[-1]}, at most {LONGEST_HEAD}"
    return unlike(query, key, value, dtypes=HALVES)


attend_within = Operation(
    "attend_within",
    sdpa_by_length,
    {
        "cuda": Kernel(name="torch's varlen attention", call=_flash, refuses=_flash_refuses),
        "npu": Kernel(name="npu_fusion_attention", call=_npu_fusion, refuses=_npu_refuses),
    },
)
"""(query, key, value [P, H, D], lengths of segments in order, one or more, P in all, scale) -> [P, H, D]."""
