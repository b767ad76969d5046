"""NPU operators by torch-npu's real schemas, computed on the processor by what their documentation says.

To test adapters: mask polarity, cumulative ends, halves of a rotation, query heads over key-value heads. What a real
kernel refuses, or computes something else of, is asserted. Where torch-npu is loaded its own definitions are used, else
those that `npu_facts.json` keeps of its wheel. Letters: H heads, Q queries, L keys, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tests.ascend.npu_facts import PIN, table
from tests.numerics.flash_on_cpu import attend, hidden_by_band, scores_of, slopes, spans

CAUSAL, BAND = 3, 4
EVERY = 1 << 30


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What one call of an attention operator was given."""

    query_ends: list[int]
    key_ends: list[int]
    sparse_mode: int


@contextmanager
def npu_operators() -> Iterator[list[AttentionCall]]:
    """The operators, on the processor and with gradients, for as long as it is open; yields the calls of attention."""
    library = torch.library.Library("npu", "FRAGMENT")
    calls: list[AttentionCall] = []
    try:
        for name, schema in table()[PIN]["schemas"].items():
            if not hasattr(torch.ops.npu, name):
                library.define(schema)
        for name, function in {**OPERATORS, **_attention(calls)}.items():
            library.impl(name, function, "CompositeImplicitAutograd")
        yield calls
    finally:
        library._destroy()


def _rms_norm(x: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    assert gamma.dtype == x.dtype and 2 <= x.dim() <= 8, "gamma of x's dtype, 2 to 8 axes"
    inverse = x.float().square().mean(-1, keepdim=True).add(epsilon).rsqrt()
    return (x.float() * inverse * gamma.float()).to(x.dtype), inverse


def _rotary_mul(x: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half", rotate: Tensor | None = None) -> Tensor:
    assert x.dim() == r1.dim() == r2.dim() == 4 and x.shape[-1] % 2 == 0 and x.shape[-1] < 896
    assert rotary_mode == "half" and rotate is None
    first, second = x.chunk(2, -1)
    return x * r1 + torch.cat((-second, first), -1) * r2


def _swiglu(x: Tensor, dim: int = -1) -> Tensor:
    gate, up = x.chunk(2, dim)
    return functional.silu(gate) * up


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return functional.gelu(x, approximate=approximate)


def _grouped_matmul(
    x: list[Tensor], weight: list[Tensor], *, group_list: Tensor, split_item: int, group_type: int, **_
):
    """Groups along the rows (type 0), or along what is summed over (type 2); without a gradient, as the real one."""
    (left,), (right,) = x, weight
    assert group_list.dtype == torch.int64 and (split_item, group_type) in ((2, 0), (3, 2))
    rows = spans(group_list.tolist())
    if group_type == 0:
        return [torch.cat([left[own] @ matrix for own, matrix in zip(rows, right, strict=True)]).detach()]
    return [torch.stack([left[:, own] @ right[own] for own in rows]).detach()]


OPERATORS = {
    "npu_rms_norm": _rms_norm,
    "npu_rotary_mul": _rotary_mul,
    "npu_swiglu": _swiglu,
    "npu_gelu": _gelu,
    "npu_grouped_matmul": _grouped_matmul,
}


def _attention(calls: list[AttentionCall]) -> dict[str, object]:
    def forward(
        query, key, value, head_num, input_layout, pse=None, padding_mask=None, atten_mask=None, scale=1.0,
        keep_prob=1.0, pre_tockens=2147483647, next_tockens=2147483647, inner_precise=0, prefix=None,
        actual_seq_qlen=None, actual_seq_kvlen=None, sparse_mode=0, gen_mask_parallel=True, sync=False,
        softmax_layout="", *_,
    ):  # fmt: skip
        _check(query, key, head_num, input_layout, actual_seq_qlen, actual_seq_kvlen)
        calls.append(AttentionCall(actual_seq_qlen, actual_seq_kvlen, sparse_mode))
        outs, highest, totals = [], [], []
        for rows, keys in zip(spans(actual_seq_qlen), spans(actual_seq_kvlen), strict=True):
            sizes = rows.stop - rows.start, keys.stop - keys.start
            hidden = _hidden(atten_mask, sparse_mode, pre_tockens, next_tockens, *sizes)
            outs.append(attend(query[rows], key[keys], value[keys], scale, hidden)[0])
            logits = scores_of(query[rows], key[keys], scale, hidden)
            most = logits.amax(-1, keepdim=True)
            highest.append(most[..., 0])
            totals.append((logits - most).exp().sum(-1))
        return torch.cat(outs), *(_laid_out(x, softmax_layout) for x in (highest, totals)), query.new_empty(0), 0, 0, 0

    def backward(
        query, key, value, dy, head_num, input_layout, *, pse=None, padding_mask=None, atten_mask=None,
        softmax_max=None, softmax_sum=None, softmax_in=None, attention_in=None, scale_value=1.0, keep_prob=1.0,
        pre_tockens=2147483647, next_tockens=2147483647, actual_seq_qlen=None, actual_seq_kvlen=None, sparse_mode=0,
        softmax_layout="", **_,
    ):  # fmt: skip
        _check(query, key, head_num, input_layout, actual_seq_qlen, actual_seq_kvlen)
        assert softmax_layout == "TND", "statistics are merged in the order of the tokens"
        assert softmax_max.shape == softmax_sum.shape == (*query.shape[:2], 8)
        calls.append(AttentionCall(actual_seq_qlen, actual_seq_kvlen, sparse_mode))
        lse = (softmax_max + softmax_sum.log())[..., 0].t()
        parts = []
        for rows, keys in zip(spans(actual_seq_qlen), spans(actual_seq_kvlen), strict=True):
            sizes = rows.stop - rows.start, keys.stop - keys.start
            hidden = _hidden(atten_mask, sparse_mode, pre_tockens, next_tockens, *sizes)
            own = query[rows], key[keys], value[keys], attention_in[rows], lse[:, rows]
            parts.append(slopes(dy[rows], *own, scale_value, hidden))
        return *(torch.cat(each) for each in zip(*parts, strict=True)), dy.new_empty(0), dy.new_empty(0)

    return {"npu_fusion_attention": forward, "npu_fusion_attention_grad": backward}


def _check(query: Tensor, key: Tensor, heads: int, layout: str, query_ends: list[int], key_ends: list[int]) -> None:
    assert layout == "TND" and heads == query.shape[1] and query.shape[-1] % 16 == 0
    assert len(query_ends) == len(key_ends) <= 1024, f"{len(query_ends)} segments in a call, at most 1024"
    assert query_ends[-1] == len(query) and key_ends[-1] == len(key), "ends are cumulative, without the leading 0"


def _hidden(mask: Tensor | None, mode: int, before: int, after: int, queries: int, keys: int) -> Tensor:
    """bool [Q, L]; modes 3 and 4 count from the last query and the last key."""
    if mode == 0:
        assert mask is None
        return torch.zeros(queries, keys, dtype=torch.bool)
    assert mode in (CAUSAL, BAND), f"sparse mode {mode}"
    triangle = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
    assert mask.dtype is torch.bool and torch.equal(mask, triangle), "the mask is 2048 x 2048, True is hidden"
    return hidden_by_band(queries, keys, before if mode == BAND else EVERY, after if mode == BAND else 0)


def _laid_out(runs: Sequence[Tensor], layout: str) -> Tensor:
    """[H, Q] of each run -> eight copies of each number, in the order of the tokens, or by default of each run's heads
    in the memory of the same shape."""
    wide = [run.unsqueeze(-1).expand(-1, -1, 8) for run in runs]
    if layout == "TND":
        return torch.cat([run.transpose(0, 1) for run in wide]).contiguous()
    return torch.cat([run.reshape(run.shape[1], run.shape[0], 8) for run in wide])
