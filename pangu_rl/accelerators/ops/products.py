"""A linear layer whose weight gradient is a product of two matrices that lie in memory as the product reads them.

On a CPU the product with a transposed view takes twice as long as one with a transposed copy, the copy included.
Letters: T tokens, N outputs, K inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pangu_rl.accelerators.ops.table import COMPILED, Kernel, Operation, uncompiled, unlike

SMALLEST = 64
"""Outputs below which the copy is not worth its call."""
STRIP = 1 << 23
"""Elements that are copied at once: of the gradient of logits, or of the head's weight, only a strip."""


def _by_copies(grad: Tensor, x: Tensor) -> Tensor:
    (tokens, outputs), inputs = grad.shape, x.shape[1]
    if grad.dtype is not torch.bfloat16 or outputs < SMALLEST:
        return grad.t().mm(x)  # float32 products read either way alike
    grad, x = (tensor if tensor.stride(1) == 1 else tensor.contiguous() for tensor in (grad, x))
    total = torch.empty(outputs, inputs, dtype=x.dtype)
    if inputs * (tokens + outputs) < outputs * tokens:
        # (x^T grad)^T: the copies of x and of the product are smaller than that of `grad`.
        x, width = _copy(x), max(STRIP // max(inputs, 1), SMALLEST)
        for strip, result in zip(grad.split(width, 1), total.split(width)):
            torch.ops.pangu_rl.transpose(x.mm(strip), result)
        return total
    width = max(STRIP // max(tokens, 1), SMALLEST)
    for strip, result in zip(grad.split(width, 1), total.split(width)):
        torch.mm(_copy(strip), x, out=result)
    return total


def _copy(x: Tensor) -> Tensor:
    turned = torch.empty(x.shape[1], x.shape[0], dtype=x.dtype)
    torch.ops.pangu_rl.transpose(x, turned)
    return turned


def _refuses(grad: Tensor, x: Tensor) -> str | None:
    return unlike(grad, x, dtypes=COMPILED)


weight_gradient = Operation(
    "weight_gradient",
    lambda grad, x: grad.t().mm(x),
    {"cpu": Kernel(name="transposed copies", call=_by_copies, refuses=_refuses, missing=uncompiled)},
)
"""(grad [T, N], x [T, K]) -> grad^T x [N, K]; it has no gradient of its own."""


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        grad_x = rows.mm(weight).view_as(x) if ctx.needs_input_grad[0] else None
        grad_weight = weight_gradient(rows, x.flatten(0, -2)) if ctx.needs_input_grad[1] else None
        grad_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K], weight [N, K], bias [N] or None -> x weight^T + bias [..., N], as torch's own."""
    if torch.is_autocast_enabled(x.device.type):
        return functional.linear(x, weight, bias)  # which remembers what it has cast, for the backward pass
    return _Linear.apply(x, weight, bias)
