"""The attention operators of GPUs and NPUs by their real schemas, computed on the processor: to test the adapters.

Schemas: `aten::_flash_attention_forward` is torch's own, without a kernel for processors; `npu_fusion_attention` is
copied from torch-npu 2.13.0's `npu_native_functions_by_codegen.yaml`. What a real kernel refuses is asserted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_FUSION = (
    "npu_fusion_attention(Tensor query, Tensor key, Tensor value, int head_num, str input_layout, Tensor? pse=None, "
    "Tensor? padding_mask=None, Tensor? atten_mask=None, float scale=1., float keep_prob=1., "
    "int pre_tockens=2147483647, int next_tockens=2147483647, int inner_precise=0, int[]? prefix=None, "
    "int[]? actual_seq_qlen=None, int[]? actual_seq_kvlen=None, int sparse_mode=0, bool gen_mask_parallel=True, "
    'bool sync=False, str softmax_layout="", Tensor? sink=None, Tensor? dropout_mask=None, int seed=0, int offset=0) '
    "-> (Tensor, Tensor, Tensor, Tensor, int, int, int)"
)
_FUSION_GRAD = (
    "npu_fusion_attention_grad(Tensor query, Tensor key, Tensor value, Tensor dy, int head_num, str "
    "input_layout, *, Tensor? pse=None, Tensor? padding_mask=None, Tensor? atten_mask=None, Tensor? "
    "softmax_max=None, Tensor? softmax_sum=None, Tensor? softmax_in=None, Tensor? attention_in=None, float "
    "scale_value=1., float keep_prob=1., int pre_tockens=2147483647, int next_tockens=2147483647, int "
    "inner_precise=0, int seed=0, int offset=0, int numels=0, int[]? prefix=None, int[]? "
    "actual_seq_qlen=None, int[]? actual_seq_kvlen=None, int sparse_mode=0, bool gen_mask_parallel=True, bool "
    'sync=False, str softmax_layout="", Tensor? sink=None) -> (Tensor, Tensor, Tensor, Tensor, Tensor)'
)


@contextmanager
def device_operators() -> Iterator[None]:
    """Both devices' operators, on the processor, for as long as it is open."""
    aten = torch.library.Library("aten", "IMPL")
    npu = torch.library.Library("npu", "FRAGMENT")
    try:
        aten.impl("_flash_attention_forward", _flash_forward, "CPU")
        aten.impl("_flash_attention_backward", _flash_backward, "CPU")
        npu.define(_FUSION)
        npu.define(_FUSION_GRAD)
        npu.impl("npu_fusion_attention", _fusion_forward, "CPU")
        npu.impl("npu_fusion_attention_grad", _fusion_backward, "CPU")
        yield
    finally:
        aten._destroy()
        npu._destroy()


def _logits(q: Tensor, k: Tensor, scale: float, hidden: Tensor) -> Tensor:
    """[H, Q, L]"""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return (torch.einsum("qhd,khd->hqk", q, k) * scale).masked_fill(hidden, -torch.inf)


def _hidden(queries: int, keys: int, left: int, right: int) -> Tensor:
    """bool [Q, L] of a band counted from the last query and the last key."""
    place = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
    return (place > left) | (place < -right)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, hidden: Tensor) -> tuple[Tensor, Tensor]:
    logits = _logits(q, k, scale, hidden)
    v = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    return torch.einsum("hqk,khd->qhd", logits.softmax(-1), v), logits.logsumexp(-1)


def _slopes(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float, hidden: Tensor
) -> list[Tensor]:
    group = q.shape[1] // k.shape[1]
    probs = (_logits(q, k, scale, hidden) - lse.unsqueeze(-1)).exp()
    dots = (do * out).sum(-1).t().unsqueeze(-1)
    ds = probs * (torch.einsum("qhd,khd->hqk", do, v.repeat_interleave(group, 1)) - dots) * scale
    dq = torch.einsum("hqk,khd->qhd", ds, k.repeat_interleave(group, 1))
    dk, dv = torch.einsum("hqk,qhd->khd", ds, q), torch.einsum("hqk,qhd->khd", probs, do)
    return [dq, *(x.unflatten(1, (-1, group)).sum(2) for x in (dk, dv))]


def _spans(ends: list[int]) -> list[slice]:
    return [slice(*pair) for pair in itertools.pairwise([0, *ends])]


def _flash_band(causal: bool, left: int | None, right: int | None, queries: int, keys: int) -> Tensor:
    infinite = 1 << 30
    left = infinite if left is None or left < 0 else left
    right = 0 if causal else infinite if right is None or right < 0 else right
    return _hidden(queries, keys, left, right)


def _flash_forward(
    query, key, value, cu_q, cu_k, max_q, max_k, dropout_p, is_causal, return_debug_mask, *, scale=None,
    window_size_left=None, window_size_right=None, **unused,
):  # fmt: skip
    assert query.shape[-1] % 8 == 0 and key.shape == value.shape and cu_q.dtype == cu_k.dtype == torch.int32
    outs, sums = [], []
    for rows, keys in zip(_spans(cu_q[1:].tolist()), _spans(cu_k[1:].tolist()), strict=True):
        sizes = rows.stop - rows.start, keys.stop - keys.start
        assert 0 < sizes[0] <= max_q and 0 < sizes[1] <= max_k
        hidden = _flash_band(is_causal, window_size_left, window_size_right, *sizes)
        out, lse = _attend(query[rows], key[keys], value[keys], scale, hidden)
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
    for rows, keys in zip(_spans(cu_q[1:].tolist()), _spans(cu_k[1:].tolist()), strict=True):
        sizes = rows.stop - rows.start, keys.stop - keys.start
        hidden = _flash_band(is_causal, window_size_left, window_size_right, *sizes)
        own = query[rows], key[keys], value[keys], out[rows], lse[:, rows]
        parts.append(_slopes(grad_out[rows], *own, scale, hidden))
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _fusion_hidden(mask: Tensor | None, mode: int, before: int, after: int, queries: int, keys: int) -> Tensor:
    if mode == 0:
        assert mask is None
        return torch.zeros(queries, keys, dtype=torch.bool)
    assert mask.dtype == torch.bool and torch.equal(mask, torch.ones(2048, 2048, dtype=torch.bool).triu(1))
    assert mode in (3, 4)
    return _hidden(queries, keys, before if mode == 4 else 1 << 30, after if mode == 4 else 0)


def _fusion_runs(query: Tensor, key: Tensor, head_num: int, layout: str, ends: list[list[int]]) -> zip:
    assert layout == "TND" and head_num == query.shape[1] and query.shape[-1] % 16 == 0
    assert len(ends[0]) == len(ends[1]) <= 1024 and ends[0][-1] == len(query) and ends[1][-1] == len(key)
    return zip(*map(_spans, ends), strict=True)


def _fusion_forward(
    query, key, value, head_num, input_layout, pse=None, padding_mask=None, atten_mask=None, scale=1.0, keep_prob=1.0,
    pre_tockens=2147483647, next_tockens=2147483647, inner_precise=0, prefix=None, actual_seq_qlen=None,
    actual_seq_kvlen=None, sparse_mode=0, gen_mask_parallel=True, sync=False, softmax_layout="", *unused,
):  # fmt: skip
    assert softmax_layout == "TND"
    outs, highest, total = [], [], []
    for rows, keys in _fusion_runs(query, key, head_num, input_layout, [actual_seq_qlen, actual_seq_kvlen]):
        sizes = rows.stop - rows.start, keys.stop - keys.start
        hidden = _fusion_hidden(atten_mask, sparse_mode, pre_tockens, next_tockens, *sizes)
        out, _ = _attend(query[rows], key[keys], value[keys], scale, hidden)
        logits = _logits(query[rows], key[keys], scale, hidden)
        outs.append(out)
        highest.append(logits.amax(-1).t())
        total.append((logits - logits.amax(-1, keepdim=True)).exp().sum(-1).t())
    wide = [torch.cat(parts).unsqueeze(-1).expand(-1, -1, 8).contiguous() for parts in (highest, total)]
    return torch.cat(outs), *wide, torch.empty(0), 0, 0, 0


def _fusion_backward(
    query, key, value, dy, head_num, input_layout, *, pse=None, padding_mask=None, atten_mask=None, softmax_max=None,
    softmax_sum=None, softmax_in=None, attention_in=None, scale_value=1.0, pre_tockens=2147483647,
    next_tockens=2147483647, actual_seq_qlen=None, actual_seq_kvlen=None, sparse_mode=0, softmax_layout="", **unused,
):  # fmt: skip
    assert softmax_layout == "TND" and softmax_max.shape == softmax_sum.shape == (*query.shape[:2], 8)
    lse = (softmax_max + softmax_sum.log())[..., 0].t()
    parts = []
    for rows, keys in _fusion_runs(query, key, head_num, input_layout, [actual_seq_qlen, actual_seq_kvlen]):
        sizes = rows.stop - rows.start, keys.stop - keys.start
        hidden = _fusion_hidden(atten_mask, sparse_mode, pre_tockens, next_tockens, *sizes)
        own = query[rows], key[keys], value[keys], attention_in[rows], lse[:, rows]
        parts.append(_slopes(dy[rows], *own, scale_value, hidden))
    return *(torch.cat(each) for each in zip(*parts, strict=True)), torch.empty(0), torch.empty(0)
