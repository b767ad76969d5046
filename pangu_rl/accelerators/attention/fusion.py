"""Ascend's fused attention in its layout TND, of sequences of variable length.

The operator takes cumulative lengths as host lists without the leading 0, at most 1,024 of them, and a mask of 2048 by
2048 whatever the lengths are; `softmax_layout="TND"` gives its statistics in the order of the tokens. The maximum and
the sum that it returns stand for the log-sum-exp: backward is told that the maximum is the log-sum-exp and the sum 1.
Needs CANN 8.3.RC1 or later. Not yet run on hardware.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pangu_rl.accelerators.attention.kernel import Scores
from pangu_rl.accelerators.attention.merged import VarlenKernel
from pangu_rl.accelerators.attention.segments import Pass
from pangu_rl.accelerators.ops.varlen import LONGEST_HEAD, MOST_SEGMENTS

STATISTICS = 8
"""Copies of a statistic that the operator keeps side by side."""
RIGHT_DOWN, BAND = 3, 4
"""Its sparse modes: causal, and a window, both counted from the last query and the last key of a run."""


def _forward(query: Tensor, key: Tensor, value: Tensor, runs: Pass, scores: Scores) -> tuple[Tensor, Tensor]:
    outs, sums = [], []
    for part in _parts(runs):
        out, highest, total, *_ = torch.ops.npu.npu_fusion_attention(
            query[part.queries],
            key[part.keys],
            value[part.keys],
            query.shape[1],
            "TND",
            scale=scores.scale,
            **part.options(query.device, scores),
        )
        outs.append(out)
        sums.append((highest + total.log())[..., 0].t())
    return torch.cat(outs), torch.cat(sums, dim=1)


def _backward(
    grad_out: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    runs: Pass,
    scores: Scores,
) -> tuple[Tensor, Tensor, Tensor]:
    (query, key, value), (out, lse) = inputs, outputs
    highest = lse.t().unsqueeze(-1).expand(-1, -1, STATISTICS).contiguous()
    grads = []
    for part in _parts(runs):
        own = highest[part.queries]
        grads.append(
            torch.ops.npu.npu_fusion_attention_grad(
                query[part.queries],
                key[part.keys],
                value[part.keys],
                grad_out[part.queries],
                query.shape[1],
                "TND",
                softmax_max=own,
                softmax_sum=torch.ones_like(own),
                attention_in=out[part.queries],
                scale_value=scores.scale,
                **part.options(query.device, scores),
            )[:3]
        )
    return tuple(torch.cat(parts) for parts in zip(*grads, strict=True))


class _Part:
    """As many runs as one call takes."""

    def __init__(self, runs: Pass, first: int) -> None:
        self._runs = runs
        last = min(first + MOST_SEGMENTS, len(runs.query_ends))
        (self.queries, self._query_ends), (self.keys, self._key_ends) = (
            _cut(ends, first, last) for ends in (runs.query_ends, runs.key_ends)
        )

    def options(self, device: torch.device, scores: Scores) -> dict[str, Any]:
        """What forward and backward are told alike."""
        lengths = {"actual_seq_qlen": self._query_ends, "actual_seq_kvlen": self._key_ends, "softmax_layout": "TND"}
        if not self._runs.causal:
            return lengths
        if not scores.window:
            return lengths | {"atten_mask": _mask(device), "sparse_mode": RIGHT_DOWN}
        band = {"sparse_mode": BAND, "pre_tockens": scores.window - 1, "next_tockens": 0}
        return lengths | {"atten_mask": _mask(device)} | band


def _parts(runs: Pass) -> Iterator[_Part]:
    for first in range(0, len(runs.query_ends), MOST_SEGMENTS):
        yield _Part(runs, first)


def _cut(ends: tuple[int, ...], first: int, last: int) -> tuple[slice, list[int]]:
    """Rows of the runs first to last, and their ends counted from the first row."""
    start = ends[first - 1] if first else 0
    return slice(start, ends[last - 1]), [end - start for end in ends[first:last]]


@lru_cache(maxsize=4)  # every layer asks for the same one
def _mask(device: torch.device) -> Tensor:
    """bool [2048, 2048], True is hidden: what the operator reads for every causal mode."""
    with torch.inference_mode(False):
        return torch.ones(2048, 2048, dtype=torch.bool, device=device).triu(1)


FUSION = VarlenKernel(
    name="npu_fusion_attention",
    forward=_forward,
    backward=_backward,
    dtypes=(torch.bfloat16, torch.float16, torch.float32),
    head_multiple=16,
    longest_head=LONGEST_HEAD,
)
