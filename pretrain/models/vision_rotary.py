"""Rotary positions of patches over rows and columns: positions -> **cos and sin (float32)** -> rotated q and k.

The first half of a head's angles belongs to the row, the second to the column; channel k turns with channel k + D / 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pangu_rl.accelerators.row_pieces import row_pieces

BASE = 10_000.0


def rotation(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles, float32 [P, 1, D / 2] each, for heads of `size` D.

    positions: int64 [P, 2], row and column. Angles are float32 whatever the model's dtype: in bfloat16 those of a large
    picture would be off by a quarter of a radian.
    """
    exponents = torch.arange(0, size // 2, 2, dtype=torch.float32, device=positions.device) / (size // 2)
    angles = (positions.unsqueeze(2) * (1.0 / BASE**exponents)).flatten(1).unsqueeze(1)
    return angles.cos(), angles.sin()


def rotate_(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each channel pair of q and k by its angle, in float32, in place; returns `qkv`.

    qkv: [P, 3 W], the q of all heads, then their k, then their v, which stays.
    """
    return _Rotate.apply(qkv, cos, sin)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.mark_dirty(qkv)
        return _turn_(qkv, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """A rotation's transpose turns back."""
        cos, sin = ctx.saved_tensors
        return _turn_(grad.clone(), cos, -sin), None, None


def _turn_(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = qkv[:, : qkv.shape[1] // 3 * 2].unflatten(1, (-1, 2, cos.shape[-1]))
    for first, second, c, s in row_pieces(turned[:, :, 0], turned[:, :, 1], cos, sin):
        x, y = first.float(), second.float()
        left = (x * c).addcmul_(y, s, value=-1)
        second.copy_((y * c).addcmul_(x, s))
        first.copy_(left)
    return qkv
