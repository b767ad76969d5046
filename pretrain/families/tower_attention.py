"""Attention of a Qwen tower over pictures laid end to end, by the device's kernel: **one call for all windows**.

transformers calls its attention once for every window of every picture, some thousands of times a block in a large
pack; without flash attention there is no other way through its code. Letters: P patches, H heads, D head size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.models.varlen import varlen_attention


def attend_in_one_call(blocks: nn.ModuleList) -> None:
    """Replace the attention of `blocks`, whose modules and parameters stay."""
    for block in blocks:
        block.attn.forward = partial(_attend, block.attn)


def _attend(
    module: nn.Module, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any
) -> Tensor:
    """[P, W] -> [P, W]; cu_seqlens: bounds of the segments that patches attend in; cos and sin: [P, D] each."""
    query, key, value = module.qkv(hidden_states).unflatten(-1, (3, module.num_heads, -1)).unbind(1)
    query, key = (_turned(heads, *position_embeddings) for heads in (query, key))
    lengths = cu_seqlens.diff().tolist()
    mixed = varlen_attention(query, key, value, lengths, query.shape[-1] ** -0.5)
    return module.proj(mixed.flatten(1))


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[P, H, D] with each pair of channels turned by its angle, in float32."""
    wide = heads.float()
    first, second = wide.chunk(2, -1)
    turned = wide * cos.unsqueeze(1).float() + torch.cat((-second, first), -1) * sin.unsqueeze(1).float()
    return turned.to(heads.dtype)
