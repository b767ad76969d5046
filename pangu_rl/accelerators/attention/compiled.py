"""The processor's kernel, compiled from `tree_attention.cpp`; bfloat16 and float32.

For every length measured (128 to 16,384 tokens, with AMX and with AVX-512 BF16) its two directions together take less
time than torch's fused kernel for processors, whose backward alone takes longer, so there is no crossover to a second
kernel.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from pangu_rl.accelerators.attention.kernel import AttentionKernel, Scores
from pangu_rl.accelerators.attention.plain import PLAIN
from pangu_rl.accelerators.attention.segments import Segments
from pangu_rl.accelerators.native import load_native


def _forward(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scores: Scores) -> tuple[Tensor, Tensor]:
    rows = (_with_rows(x) for x in (query, key, value))
    return torch.ops.pangu_rl.tree_attention(*rows, *segments.host, scores.scale, scores.window, scores.cap)


def _backward(
    grad_out: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    segments: Segments,
    scores: Scores,
) -> tuple[Tensor, Tensor, Tensor]:
    out, lse = outputs
    rows = (_with_rows(x) for x in (grad_out, *inputs, out))
    return torch.ops.pangu_rl.tree_attention_backward(
        *rows, lse.contiguous(), *segments.host, scores.scale, scores.window, scores.cap
    )


def _with_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


COMPILED = AttentionKernel(
    name="compiled tree attention",
    forward=_forward,
    backward=_backward,
    dtypes=(torch.bfloat16, torch.float32),
    head_multiple=2,
)


@lru_cache(maxsize=1)
def compiled_or_plain() -> AttentionKernel:
    """The compiled kernel; plain torch where the library is not there."""
    return COMPILED if load_native() else PLAIN
