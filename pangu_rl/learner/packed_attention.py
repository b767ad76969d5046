"""Attention by a Pack's segment tree: pack -> layout (once) -> **every layer's attention** -> hidden states.

A token attends to all tokens of its segment's ancestors and to its own segment up to itself, so a group's prompt runs
through the model once and all its completions attend to the same keys. The device's kernel keeps the output and its
log-sum-exp and nothing else: memory is linear in the tokens (`pangu_rl.accelerators.attention`).

transformers' attention-interface registry calls `packed_attention` under the name `pangu_packed`; the layout reaches it
through `attend_by`, which must stay open until the backward pass has run (gradient checkpointing runs forward again).
Letters: T tokens, H heads, K key-value heads dividing H, D head size, E size of a value.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface

from pangu_rl.accelerators import get_accelerator
from pangu_rl.accelerators.attention.kernel import AttentionKernel, Scores
from pangu_rl.accelerators.attention.plain import PLAIN
from pangu_rl.accelerators.attention.segments import Segments
from pangu_rl.accelerators.ops import FALLBACKS
from pangu_rl.errors import ConfigError
from pangu_rl.learner.parallel.sequence_parallel import SequenceGroup
from pangu_rl.records import Pack

PACKED = "pangu_packed"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """What attention needs to know of a pack; built once, used by all layers in both directions."""

    segments: Segments
    kernel: AttentionKernel
    sequence: SequenceGroup | None = None
    """The ranks that run the pack together; None when one runs all of it."""


def build_layout(
    pack: Pack,
    device: torch.device | str = "cpu",
    sequence: SequenceGroup | None = None,
    kernel: AttentionKernel | None = None,
) -> Layout:
    """The layout of `pack` for `kernel`, by default the one of `device`."""
    device = torch.device(device)
    segments = Segments(
        np.asarray(pack.segment_starts, dtype=np.int64), np.asarray(pack.segment_parents, dtype=np.int64), device
    )
    return Layout(segments, kernel or get_accelerator(device.type).attention(), sequence)


def tree_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scores: Scores, sinks: Tensor | None = None
) -> Tensor:
    """softmax(scores) v over each token's ancestors and itself: [T, H, E], in the dtype of `query`.

    query: [T, H, D]; key: [T, K, D]; value: [T, K, E]. sinks: [H], a further score of each head that takes its share of
    the softmax and has no value. A dtype that the kernel does not take runs in plain torch.
    """
    if query.dtype not in layout.kernel.dtypes:
        _say_plain(layout.kernel.name, query.dtype)
        FALLBACKS["tree attention"] += 1
        layout = replace(layout, kernel=PLAIN)
    width = value.shape[-1]
    size = max(query.shape[-1], width)
    size += -size % layout.kernel.head_multiple
    padded = (pad(x, (0, size - x.shape[-1])) if x.shape[-1] < size else x for x in (query, key, value))
    return _TreeAttention.apply(*padded, sinks, layout, scores)[..., :width]


@lru_cache  # once for each
def _say_plain(kernel: str, dtype: torch.dtype) -> None:
    log.warning("attention in %s runs in plain torch, slowly: %s does not take it", dtype, kernel)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls: query [1, H, T, D], key [1, K, T, D], value [1, K, T, E] -> [1, T, H, E].

    Under sequence parallelism T are the tokens of this rank, before and after.

    Raises:
        ConfigError: the model wants what this attention, or the device's kernel, does not compute.
    """
    layout = _open_layout()
    scores = Scores(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=(kwargs["sliding_window"] if "sliding_window" in kwargs else window_of_mask(module)) or 0,
        cap=kwargs.get("softcap") or 0.0,
    )
    _refuse_unsupported(module, layout, query.shape[-1], scores, attention_mask, dropout, kwargs)
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    sinks = kwargs.get("s_aux")
    if layout.sequence is None:
        return tree_attention(query, key, value, layout, scores, sinks).unsqueeze(0), None
    if sinks is not None:
        sinks = sinks[layout.sequence.span(len(sinks))]
    width = value.shape[-1]
    value = pad(value, (0, query.shape[-1] - width))  # of MLA: the exchange takes one size
    output = tree_attention(*layout.sequence.to_heads(query, key, value), layout, scores, sinks)
    return layout.sequence.to_tokens(output[..., :width]).unsqueeze(0), None


def window_of_mask(module: nn.Module) -> int | None:
    """The window of an attention layer of a family that has it in its mask alone, which packed attention is not given
    (Qwen2-MoE, PhiMoE): by its configuration, where the family's code makes such masks."""
    config = getattr(module, "config", None)
    if config is None or not hasattr(sys.modules[type(module).__module__], "create_sliding_window_causal_mask"):
        return None
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or kinds[module.layer_idx] == "sliding_attention"
    return getattr(config, "sliding_window", None) if slides else None


@contextmanager
def attend_by(layout: Layout) -> Iterator[None]:
    """Make `layout` the one that `packed_attention` uses, for forward and backward."""
    _open.append(layout)
    try:
        yield
    finally:
        _open.pop()


# A plain list, not a context variable: on devices the backward pass runs in autograd's own threads.
_open: list[Layout] = []


def _open_layout() -> Layout:
    if not _open:
        raise RuntimeError("packed attention ran outside attend_by(layout)")
    return _open[-1]


class _TreeAttention(torch.autograd.Function):
    """The kernel's two directions, with sinks merged into its log-sum-exp.

    A sink of score z adds e^z to the softmax's denominator: l' = logaddexp(l, z), o' = o e^(l - l'). Its own
    probability e^(z - l') has a value of 0, so dz = -e^(z - l') sum(do o') over the queries.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        layout: Layout,
        scores: Scores,
    ) -> Tensor:
        out, lse = layout.kernel.forward(query, key, value, layout.segments, scores)
        if sinks is not None:
            merged = torch.logaddexp(lse, sinks.float().unsqueeze(1))
            out = out * (lse - merged).exp().t().unsqueeze(-1).to(out.dtype)
            lse = merged
        ctx.save_for_backward(query, key, value, out, lse, sinks)
        ctx.layout, ctx.scores = layout, scores
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse, sinks = ctx.saved_tensors
        kernel, segments = ctx.layout.kernel, ctx.layout.segments
        grads = kernel.backward(grad_out, (query, key, value), (out, lse), segments, ctx.scores)
        grad_sinks = None
        if sinks is not None:
            dots = (grad_out.float() * out.float()).sum(-1).t()
            grad_sinks = -((sinks.float().unsqueeze(1) - lse).exp() * dots).sum(1).to(sinks.dtype)
        return *grads, grad_sinks, None, None


def _refuse_unsupported(
    module: nn.Module,
    layout: Layout,
    size: int,
    scores: Scores,
    mask: Tensor | None,
    dropout: float,
    options: dict[str, Any],
) -> None:
    wanted = {
        "an attention mask of its own": mask is not None,
        "attention dropout": dropout > 0,
        "attention that is not causal": not (options.get("is_causal") or getattr(module, "is_causal", True)),
        "a position bias": options.get("position_bias") is not None,
    }
    lacking = layout.kernel.lacks(size, scores)
    if what := next((what for what, found in wanted.items() if found), lacking):
        raise ConfigError(
            f"model.path: {type(module).__name__} uses {what}, which packed attention by {layout.kernel.name} does not "
            "compute; choose a model of plain causal attention"
        )


AttentionInterface.register(PACKED, packed_attention)
