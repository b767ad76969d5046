"""A perceptron's gate: silu(gate) * up (SwiGLU, Shazeer, arXiv 2002.05202), or gelu by tanh instead of silu; and gelu.

Gelu without a gate is exact, by the error function (Hendrycks and Gimpel, arXiv 1606.08415).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pangu_rl.accelerators.ops.table import COMPILED, HALVES, Kernel, Operation, uncompiled, unlike

SILU, GELU_TANH = "silu", "gelu_tanh"
ACTIVATIONS = {SILU: functional.silu, GELU_TANH: lambda x: functional.gelu(x, approximate="tanh")}


class _Compiled(torch.autograd.Function):
    """In float32, rounded once."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: str) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        ctx.gelu = activation == GELU_TANH
        return torch.ops.pangu_rl.gated(gate, up, ctx.gelu)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return *torch.ops.pangu_rl.gated_backward(grad.contiguous(), *ctx.saved_tensors, ctx.gelu), None


def _npu_gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    if activation == GELU_TANH:
        return torch.ops.npu.npu_gelu(gate, approximate="tanh") * up
    return torch.ops.npu.npu_swiglu(torch.cat((gate, up), -1), -1)


def _refuses(gate: Tensor, up: Tensor, activation: str) -> str | None:
    if gate.shape != up.shape:
        return f"gate {tuple(gate.shape)} and up {tuple(up.shape)} differ"
    return unlike(gate, up, dtypes=COMPILED)


def _npu_refuses(gate: Tensor, up: Tensor, activation: str) -> str | None:
    if gate.shape != up.shape:
        return f"gate {tuple(gate.shape)} and up {tuple(up.shape)} differ"
    return unlike(gate, up, dtypes=HALVES)


gated = Operation(
    "gated",
    lambda gate, up, activation: ACTIVATIONS[activation](gate) * up,
    {
        "cpu": Kernel(name="compiled", call=_Compiled.apply, refuses=_refuses, missing=uncompiled),
        "npu": Kernel(name="npu_swiglu, npu_gelu", call=_npu_gated, refuses=_npu_refuses),
    },
)
"""(gate, up, one of ACTIVATIONS) -> activation(gate) * up, all of one shape."""

gelu = Operation(
    "gelu",
    functional.gelu,
    {
        "npu": Kernel(
            name="npu_gelu",
            call=lambda x: torch.ops.npu.npu_gelu(x, approximate="none"),
            refuses=lambda x: unlike(x, dtypes=HALVES),
        )
    },
)
"""x of any shape -> x P(X <= x) for a standard normal X."""
