"""FlashAttention as torch ships it for GPUs, of sequences of variable length; bfloat16 and float16.

Not yet run on hardware.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pangu_rl.accelerators.attention.kernel import Scores
from pangu_rl.accelerators.attention.merged import VarlenKernel
from pangu_rl.accelerators.attention.segments import Pass


def _forward(query: Tensor, key: Tensor, value: Tensor, runs: Pass, scores: Scores) -> tuple[Tensor, Tensor]:
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        *runs.bounds,
        *runs.longest,
        0.0,
        runs.causal,
        False,
        scale=scores.scale,
        **_window(runs, scores),
    )
    return out, lse


def _backward(
    grad_out: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    runs: Pass,
    scores: Scores,
) -> tuple[Tensor, Tensor, Tensor]:
    # Without dropout the random state and the unused tensor are never read.
    nothing = torch.empty(2, dtype=torch.uint64, device=grad_out.device), torch.empty(0, device=grad_out.device)
    return torch.ops.aten._flash_attention_backward(
        grad_out,
        *inputs,
        *outputs,
        *runs.bounds,
        *runs.longest,
        0.0,
        runs.causal,
        *nothing,
        scale=scores.scale,
        **_window(runs, scores),
    )


def _window(runs: Pass, scores: Scores) -> dict[str, int]:
    """Tokens to the left of a query, counted from the end of its run of keys."""
    return {"window_size_left": scores.window - 1, "window_size_right": 0} if scores.window and runs.causal else {}


FLASH = VarlenKernel(
    name="torch's flash attention",
    forward=_forward,
    backward=_backward,
    dtypes=(torch.bfloat16, torch.float16),
    head_multiple=8,
    longest_head=256,
)
