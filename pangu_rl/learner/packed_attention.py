"""Attention by a Pack's segment tree: pack -> layout (once) -> **every layer's attention** -> hidden states.

Every segment is cut into query blocks. A block attends to all tokens of its ancestors and to its own segment up to
itself, so a group's prompt runs through the model once and all its completions attend to the same keys. Blocks of like
shape are batched: gather, two matrix products and a softmax for many sequences at once. The backward pass is written
out, since torch's SDPA on the CPU takes four times as long on sequences of some hundred tokens.

transformers' attention-interface registry calls `packed_attention` under the name `pangu_packed`; the layout reaches it
through `attend_by`, which must stay open until the backward pass has run (gradient checkpointing runs forward again).
Letters: T tokens, H heads, K key-value heads, G = H / K, D head size, N blocks, Q and S queries and keys of a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from pangu_rl.errors import ConfigError
from pangu_rl.learner.sequence_parallel import SequenceGroup
from pangu_rl.records import Pack

PACKED = "pangu_packed"
BLOCK = 256
"""Longest query block. A block computes its full square: longer ones waste more, shorter ones run more kernels."""
SCORES = 1 << 19
"""Most scores [N, Q, S] of a batch of blocks: the working set of a head stays within some MiB."""
WASTE = 1.25
"""A batch may pad its blocks to at most so many times their own scores ..."""
SLACK = 1 << 14
"""... plus so many: a batch of its own costs as much as they."""


@dataclass(frozen=True, slots=True)
class Batch:
    """N query blocks of like shape."""

    queries: Tensor
    """int64 [N * Q], the token of each query slot; padding repeats the block's last token."""
    keys: Tensor
    """int64 [N * S], the token of each key slot, ancestors first; padding repeats the last one."""
    bias: Tensor
    """float32 [N, 1, 1, Q, S], 0 where the query attends to the key, -inf elsewhere."""
    padding: Tensor
    """int64, the query slots that are padding."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What attention needs to know of a pack; built once, used by all layers in both directions."""

    batches: tuple[Batch, ...]
    slots: Tensor
    """int64 [T], where each token's output lies in the batches' query slots, end to end."""
    longest: int
    """Tokens of the longest sequence, ancestors included."""
    sequence: SequenceGroup | None = None
    """The ranks that run the pack together; None when one runs all of it."""


@dataclass(frozen=True, slots=True)
class _Block:
    start: int
    """First query token."""
    size: int
    keys: np.ndarray
    """int64 [S], the last `size` of them are the queries themselves."""


def build_layout(pack: Pack, device: torch.device | str = "cpu", sequence: SequenceGroup | None = None) -> Layout:
    """The layout of `pack`, with its tensors on `device`."""
    blocks = _blocks(pack)
    groups = _alike(blocks)
    slots = np.empty(pack.num_tokens, dtype=np.int64)
    batches, offset = [], 0
    for group in groups:
        width = max(block.size for block in group)
        for number, block in enumerate(group):
            first = offset + number * width
            slots[block.start : block.start + block.size] = np.arange(first, first + block.size)
        offset += len(group) * width
        batches.append(_batch(group, device))
    longest = max((len(block.keys) for block in blocks), default=0)
    return Layout(tuple(batches), torch.from_numpy(slots).to(device), longest, sequence)


def tree_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float) -> Tensor:
    """softmax(scale * q k^T + bias) v over each token's ancestors: [T, H, D], in the dtype of `query`.

    query: [T, H, D]; key, value: [T, K, D] with K dividing H. Scores and softmax are float32. This is the boundary at
    which a device's own variable-length kernel would stand in.
    """
    return _TreeAttention.apply(query, key, value, layout, scale)


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
    """The function that transformers calls: query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D].

    Under sequence parallelism T are the tokens of this rank, before and after.

    Raises:
        ConfigError: the model wants what this attention does not compute (a window shorter than the sequences, a
            soft cap, sinks, a mask or bias of its own, dropout).
    """
    layout = _open_layout()
    _refuse_unsupported(module, layout, attention_mask, dropout, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    if layout.sequence is None:
        return tree_attention(query, key, value, layout, scale).unsqueeze(0), None
    output = tree_attention(*layout.sequence.to_heads(query, key, value), layout, scale)
    return layout.sequence.to_tokens(output).unsqueeze(0), None


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
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float) -> Tensor:
        outputs, weights, kv_heads = [], [], key.shape[1]
        for batch in layout.batches:
            q = _fold(query.index_select(0, batch.queries), batch, kv_heads)
            k, v = (_fold(x.index_select(0, batch.keys), batch, kv_heads) for x in (key, value))
            probs = _softmax(q, k, batch, scale).to(value.dtype)
            outputs.append(_unfold(torch.bmm(probs, v), batch, batch.queries))
            weights.append(probs)
        ctx.save_for_backward(query, key, value, *weights)
        ctx.layout, ctx.scale = layout, scale
        return torch.cat(outputs).index_select(0, layout.slots)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        kv_heads, grads_q = key.shape[1], []
        # A key gathers its gradient from many queries, the prompt's from all completions: the sum is float32.
        grad_k = torch.zeros(key.shape, dtype=torch.float32, device=key.device)
        grad_v = torch.zeros_like(grad_k)
        for batch, probs in zip(ctx.layout.batches, weights):
            q = _fold(query.index_select(0, batch.queries), batch, kv_heads)
            k, v = (_fold(x.index_select(0, batch.keys), batch, kv_heads) for x in (key, value))
            do = grad_output.index_select(0, batch.queries).index_fill_(0, batch.padding, 0)
            do = _fold(do, batch, kv_heads)
            ds = torch._softmax_backward_data(torch.bmm(do, v.transpose(1, 2)), probs, -1, probs.dtype)
            grads_q.append(_unfold(torch.bmm(ds, k), batch, batch.queries))
            for total, grad in (
                (grad_k, torch.bmm(ds.transpose(1, 2), q)),
                (grad_v, torch.bmm(probs.transpose(1, 2), do)),
            ):
                total.index_add_(0, batch.keys, _unfold(grad, batch, batch.keys).float())
        grad_q = torch.cat(grads_q).index_select(0, ctx.layout.slots).mul_(ctx.scale)
        return grad_q, grad_k.mul_(ctx.scale).to(key.dtype), grad_v.to(value.dtype), None, None


def _softmax(q: Tensor, k: Tensor, batch: Batch, scale: float) -> Tensor:
    """[N * K, G * Q, D], [N * K, S, D] -> float32 probabilities [N * K, G * Q, S]."""
    scores = torch.bmm(q.float(), k.float().transpose(1, 2))
    blocks, _, _, size, width = batch.bias.shape
    by_block = scores.view(blocks, -1, q.shape[1] // size, size, width)
    torch.add(batch.bias, by_block, alpha=scale, out=by_block)
    return torch.softmax(scores, -1, out=scores)


def _fold(rows: Tensor, batch: Batch, kv_heads: int) -> Tensor:
    """[N * L, heads, D] -> [N * K, (heads / K) * L, D]: the queries of a key-value head in one matrix."""
    blocks, (_, heads, size) = batch.bias.shape[0], rows.shape
    rows = rows.view(blocks, -1, kv_heads, heads // kv_heads, size)
    return rows.permute(0, 2, 3, 1, 4).reshape(blocks * kv_heads, -1, size)


def _unfold(x: Tensor, batch: Batch, index: Tensor) -> Tensor:
    """[N * K, G * L, D] -> [N * L, K * G, D], the inverse of `_fold`; `index` [N * L] tells L."""
    blocks, length = batch.bias.shape[0], len(index) // batch.bias.shape[0]
    x = x.view(blocks, x.shape[0] // blocks, -1, length, x.shape[-1])
    return x.permute(0, 3, 1, 2, 4).reshape(len(index), -1, x.shape[-1])


def _blocks(pack: Pack) -> list[_Block]:
    blocks, contexts = [], []
    bounds = zip(pack.segment_starts[:-1].tolist(), pack.segment_starts[1:].tolist())
    for (start, end), parent in zip(bounds, pack.segment_parents.tolist()):
        ancestors = contexts[parent] if parent >= 0 else np.empty(0, dtype=np.int64)
        contexts.append(np.concatenate([ancestors, np.arange(start, end)]))
        count = -(-(end - start) // BLOCK)
        cuts = [start + (end - start) * part // count for part in range(count + 1)] if count else []
        for first, last in itertools.pairwise(cuts):
            blocks.append(_Block(first, last - first, contexts[-1][: len(ancestors) + last - start]))
    return blocks


def _alike(blocks: list[_Block]) -> list[list[_Block]]:
    """Blocks in batches: of like shape, so that padding stays under WASTE, and under SCORES scores in all."""
    batches: list[list[_Block]] = []
    own = width = 0
    for block in sorted(blocks, key=lambda block: (len(block.keys), block.size), reverse=True):
        scores = block.size * len(block.keys)
        if batches:
            group = batches[-1]
            padded = (len(group) + 1) * max(width, block.size) * len(group[0].keys)
            if padded <= min(WASTE * (own + scores) + SLACK, SCORES):
                group.append(block)
                own, width = own + scores, max(width, block.size)
                continue
        batches.append([block])
        own, width = scores, block.size
    return batches


def _batch(group: list[_Block], device: torch.device | str) -> Batch:
    width, length = max(block.size for block in group), max(len(block.keys) for block in group)
    queries = np.stack([np.minimum(np.arange(width), block.size - 1) + block.start for block in group])
    keys = np.stack([np.pad(block.keys, (0, length - len(block.keys)), mode="edge") for block in group])
    # A query sees the keys before its block and those of the block up to itself; a padded query sees as the last one.
    before = np.array([[len(block.keys) - block.size] for block in group])
    last_seen = before + queries - queries[:, :1]
    bias = np.where(np.arange(length) <= last_seen[:, :, None], np.float32(0), np.float32(-np.inf))
    padding = np.flatnonzero(np.arange(width) >= np.array([[block.size] for block in group]))
    tensors = queries.reshape(-1), keys.reshape(-1), bias[:, None, None], padding
    return Batch(*(torch.from_numpy(array).to(device) for array in tensors))


def _refuse_unsupported(
    module: nn.Module, layout: Layout, mask: Tensor | None, dropout: float, options: dict[str, Any]
) -> None:
    window = options.get("sliding_window")
    wanted = {
        "an attention mask of its own": mask is not None,
        "attention dropout": dropout > 0,
        "attention that is not causal": not (options.get("is_causal") or getattr(module, "is_causal", True)),
        f"a sliding window of {window} tokens for sequences of {layout.longest}": bool(window)
        and window < layout.longest,
        "a soft cap on attention scores": options.get("softcap") is not None,
        "attention sinks": options.get("s_aux") is not None,
        "a position bias": options.get("position_bias") is not None,
    }
    for what, found in wanted.items():
        if found:
            raise ConfigError(
                f"model.path: {type(module).__name__} uses {what}, which packed attention does not compute; "
                "choose a model of full causal attention"
            )


AttentionInterface.register(PACKED, packed_attention)
