"""Fused operations of the learner: one table, a kernel per device where there is one, plain torch everywhere else.

`rms_norm`, `gated`, `gelu`, `rotary`, `linear`, `grouped_matmul`, `attend_within` and the two halves of the log-prob
head are called like functions; which kernel computes them is decided by device, dtype and shape, once (see
`table.Operation`).
"""

from pangu_rl.accelerators.ops.gated import GELU_TANH, SILU, gated, gelu
from pangu_rl.accelerators.ops.grouped import grouped_matmul
from pangu_rl.accelerators.ops.products import linear, weight_gradient
from pangu_rl.accelerators.ops.rms_norm import rms_norm
from pangu_rl.accelerators.ops.rotary import rotary
from pangu_rl.accelerators.ops.softmax_head import logit_slopes_, softmax_head_
from pangu_rl.accelerators.ops.table import FALLBACKS, OPERATIONS, Operation, take_fallbacks
from pangu_rl.accelerators.ops.varlen import attend_within

__all__ = [
    "FALLBACKS",
    "GELU_TANH",
    "OPERATIONS",
    "SILU",
    "Operation",
    "attend_within",
    "gated",
    "gelu",
    "grouped_matmul",
    "linear",
    "logit_slopes_",
    "rms_norm",
    "rotary",
    "softmax_head_",
    "take_fallbacks",
    "weight_gradient",
]
