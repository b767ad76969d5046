"""torch's flash attention for GPUs by its real schema, computed on the processor: to test the adapters.

`aten::_flash_attention_forward` has no kernel for processors. What a real kernel refuses is asserted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def flash_operators() -> Iterator[None]:
    """The operators, on the processor, for as long as it is open."""
    aten = torch.library.Library("aten", "IMPL")
    try:
        aten.impl("_flash_attention_forward", _flash_forward, "CPU")
        aten.impl("_flash_attention_backward", _flash_backward, "CPU")
        yield
    finally:
        aten._destroy()


def scores_of(q: Tensor, k: Tensor, scale: float, hidden: Tensor) -> Tensor:
    """[H, Q, L]"""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return (torch.einsum("qhd,khd->hqk", q, k) * scale).masked_fill(hidden, -torch.inf)


def hidden_by_band(queries: int, keys: int, left: int, right: int) -> Tensor:
    """bool [Q, L] of a band counted from the last query and the last key."""
    place = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
    return (place > left) | (place < -right)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, hidden: Tensor) -> tuple[Tensor, Tensor]:
    logits = scores_of(q, k, scale, hidden)
    v = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    return torch.einsum("hqk,khd->qhd", logits.softmax(-1), v), logits.logsumexp(-1)


def slopes(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float, hidden: Tensor
) -> list[Tensor]:
    group = q.shape[1] // k.shape[1]
    probs = (scores_of(q, k, scale, hidden) - lse.unsqueeze(-1)).exp()
    dots = (do * out).sum(-1).t().unsqueeze(-1)
    ds = probs * (torch.einsum("qhd,khd->hqk", do, v.repeat_interleave(group, 1)) - dots) * scale
    dq = torch.einsum("hqk,khd->qhd", ds, k.repeat_interleave(group, 1))
    dk, dv = torch.einsum("hqk,qhd->khd", ds, q), torch.einsum("hqk,qhd->khd", probs, do)
    return [dq, *(x.unflatten(1, (-1, group)).sum(2) for x in (dk, dv))]


def spans(ends: list[int]) -> list[slice]:
    return [slice(*pair) for pair in itertools.pairwise([0, *ends])]


def _flash_band(causal: bool, left: int | None, right: int | None, queries: int, keys: int) -> Tensor:
    infinite = 1 << 30
    left = infinite if left is None or left < 0 else left
    right = 0 if causal else infinite if right is None or right < 0 else right
    return hidden_by_band(queries, keys, left, right)


def _flash_forward(
    query, key, value, cu_q, cu_k, max_q, max_k, dropout_p, is_causal, return_debug_mask, *, scale=None,
    window_size_left=None, window_size_right=None, **unused,
):  # fmt: skip
    assert query.shape[-1] % 8 == 0 and key.shape == value.shape and cu_q.dtype == cu_k.dtype == torch.int32
    outs, sums = [], []
    for rows, keys in zip(spans(cu_q[1:].tolist()), spans(cu_k[1:].tolist()), strict=True):
        sizes = rows.stop - rows.start, keys.stop - keys.start
        assert 0 < sizes[0] <= max_q and 0 < sizes[1] <= max_k
        hidden = _flash_band(is_causal, window_size_left, window_size_right, *sizes)
        out, lse = attend(query[rows], key[keys], value[keys], scale, hidden)
        outs.append(out)
        sums.append(lse)
    none = torch.empty(0, dtype=torch.uint64)
    return torch.cat(outs), torch.cat(sums, 1), none, none.clone(), torch.empty(0)


def _flash_backward(
    grad_out, query, key, value, out, lse, cu_q, cu_k, max_q, max_k, dropout_p, is_causal, rng_state, unused, *,
    scale=None, window_size_left=None, window_size_right=None,
):  # fmt: skip
    assert out.shape == grad_out.shape and lse.shape == (query.shape[1], len(query))
    parts = []
    for rows, keys in zip(spans(cu_q[1:].tolist()), spans(cu_k[1:].tolist()), strict=True):
        sizes = rows.stop - rows.start, keys.stop - keys.start
        hidden = _flash_band(is_causal, window_size_left, window_size_right, *sizes)
        own = query[rows], key[keys], value[keys], out[rows], lse[:, rows]
        parts.append(slopes(grad_out[rows], *own, scale, hidden))
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))
