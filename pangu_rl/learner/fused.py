"""A loaded model's operations replaced by those of the table: loaded model -> **the same modules, fused** -> learner.

A module counts by what it computes, not by its name: it is asked with numbers, or with stand-ins for its parts, and one
that answers otherwise is left as it is. Modules, parameters and their names stay, so hooks (ZeRO 3 gathers a module's
weights by them), checkpoints and gradient checkpointing do not notice.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations import moe

from pangu_rl.accelerators import ops

TOLERANCE = 2e-2
"""Of a replacement against the original on standard normal input, in bfloat16: four roundings of a value near 1."""
ROTATION = "apply_rotary_pos_emb"
"""The function of a model's file in transformers that turns queries and keys."""


@torch.no_grad()
def fuse_operations(model: nn.Module) -> dict[str, int]:
    """Replace what computes the same as an operation of the table; returns how many of each were found."""
    found: Counter[str] = Counter()
    for module in model.modules():
        if type(module) is nn.Linear:
            _replace(module, _linear)
            found["linear"] += 1
        elif (eps := _norm_eps(module)) is not None:
            _replace(module, partial(_rms_norm, eps=eps))
            found["rms_norm"] += 1
        elif (activation := _gate_activation(module)) is not None:
            _replace(module, partial(_perceptron, activation=activation))
            found["gated"] += 1
    _replace_grouped_product()
    found["rotary"] = sum(map(_replace_rotation, {type(module).__module__ for module in model.modules()}))
    return dict(found)


def _replace(module: nn.Module, forward: Callable[..., Tensor]) -> None:
    module.forward = partial(forward, module)


def _linear(module: nn.Linear, input: Tensor) -> Tensor:  # torch's own name of the argument
    return ops.linear(input, module.weight, module.bias)


def _rms_norm(module: nn.Module, hidden_states: Tensor, *, eps: float) -> Tensor:
    return ops.rms_norm(hidden_states, module.weight, eps)


def _perceptron(module: nn.Module, x: Tensor, *, activation: str) -> Tensor:
    return module.down_proj(ops.gated(module.gate_proj(x), module.up_proj(x), activation))


def _norm_eps(module: nn.Module) -> float | None:
    eps = getattr(module, "variance_epsilon", None)
    if not type(module).__name__.endswith("RMSNorm") or eps is None:
        return None
    x, weight = _normal(4, 8), _normal(8).exp()  # its own weights may be 0, or far from each other
    try:
        answer = type(module).forward(SimpleNamespace(weight=weight, variance_epsilon=eps), x)
    except (AttributeError, TypeError):
        return None  # it has parts beside these, or takes something else
    return eps if _close(ops.rms_norm.reference(x, weight, eps), answer) else None


def _gate_activation(module: nn.Module) -> str | None:
    """Which activation makes `module` down_proj(activation(gate_proj(x)) * up_proj(x)), asked with stand-ins for the
    three: they need no weights."""
    children = dict(module.named_children())
    projections = [children.get(name) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(projection, nn.Linear) for projection in projections):
        return None
    parts = {"gate_proj": lambda x: 2 * x, "up_proj": lambda x: x + 1, "down_proj": lambda x: x - 3}
    x = _normal(4, 8)
    try:
        answer = type(module).forward(SimpleNamespace(act_fn=module.act_fn, **parts), x)
    except (AttributeError, TypeError):
        return None  # it has parts beside these: an activation of another name, a limit, a scale, another input
    if not isinstance(answer, Tensor) or answer.shape != x.shape:
        return None
    fits = (name for name in (ops.SILU, ops.GELU_TANH) if _close(ops.gated.reference(2 * x, x + 1, name) - 3, answer))
    return next(fits, None)


def _replace_rotation(name: str) -> bool:
    """In the model's file, where its attention looks the function up; once in a process."""
    file = sys.modules[name]
    original = getattr(file, ROTATION, None)
    if original is None or getattr(original, "func", None) is _rotated:
        return original is not None
    query, key, angles = _normal(1, 4, 5, 8), _normal(1, 2, 5, 8), _normal(1, 5, 8)
    try:
        answer = original(query, key, angles.cos(), angles.sin())
    except (TypeError, RuntimeError):
        return False  # another signature, or angles of another shape
    expected = (ops.rotary.reference(x, angles.cos(), angles.sin()) for x in (query, key))
    if len(answer) != 2 or not all(x.shape == y.shape and _close(x, y) for x, y in zip(expected, answer)):
        return False
    setattr(file, ROTATION, partial(_rotated, original))
    return True


def _rotated(original: Callable[..., Any], query: Tensor, key: Tensor, *angles: Any, **options: Any) -> Any:
    """Rotated (query, key) [B, H, T, D]; whatever is asked for beside the plain rotation, the original computes."""
    plain = len(angles) == 2 and options.get("unsqueeze_dim", 1) == 1 and angles[0].dim() == 3
    # Some models turn a part of each head alone, some turn in float32 and round to the dtype of the heads.
    if not plain or len({(x.shape[-1], x.dtype) for x in (query, key, *angles)}) > 1:
        return original(query, key, *angles, **options)
    return ops.rotary(query, *angles), ops.rotary(key, *angles)


def _replace_grouped_product() -> None:
    """In transformers' file of experts, for the devices that have a kernel of their own; once in a process."""
    if getattr(moe._grouped_mm, "func", None) is not _grouped:
        moe._grouped_mm = partial(_grouped, moe._grouped_mm)


def _grouped(original: Callable[..., Tensor], input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    if input.device.type not in ops.grouped_matmul.kernels:
        return original(input, weight, offs)
    return ops.grouped_matmul(input.to(weight.dtype), weight, offs)


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, atol=TOLERANCE, rtol=TOLERANCE)
