"""Attention of a decoding step on a CPU: registration -> **our kernel where it serves, else vLLM's** -> model.

vLLM's waits for memory, a quarter of the time of decoding; ours asks for it ahead (`ops/decode_attention.cpp`). The
cache is vLLM's, in the layout of its vector kernels: with AMX it has another, and so has a kernel of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl, CPUAttentionMetadata
from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

from pangu_rl.accelerators.native import load_native

TASKS = 8
"""Sequences times key heads for each thread, from which on no thread waits for a long one: vLLM's splits those. The two
round apart, as vLLM's does with itself for other numbers of threads: a batch that runs empty changes over."""


class CpuAttention(CPUAttentionBackendImpl):
    def forward(
        self,
        layer: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: CPUAttentionMetadata | None,
        output: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """query [T, H, D], cache [blocks, K, tokens of a block, 2 D] -> output [T, H, D]."""
        if attn_metadata is None or not self._serves(layer.isa, query, kv_cache, attn_metadata):
            return super().forward(layer, query, key, value, kv_cache, attn_metadata, output, *args, **kwargs)
        tokens, (blocks, heads, block, size) = attn_metadata.num_actual_tokens, kv_cache.shape
        cache = kv_cache.view(blocks, heads, 2 * block, size // 2)
        table, lengths = attn_metadata.block_table, attn_metadata.seq_lens
        torch.ops.pangu_rl.decode_attention(query[:tokens], cache, table, lengths, self.scale, output[:tokens])
        return output

    def _serves(self, isa: str, query: torch.Tensor, cache: torch.Tensor, asked: CPUAttentionMetadata) -> bool:
        """One token each of many sequences, all of its past, nothing that bends or adds scores."""
        return (
            isa == "vec"
            and self.attn_type == AttentionType.DECODER
            and asked.max_query_len == 1
            and asked.num_actual_tokens == len(asked.seq_lens)
            and asked.num_actual_tokens * cache.shape[1] >= TASKS * torch.get_num_threads()
            and asked.causal is True
            and self.sliding_window == -1
            and self.alibi_slopes is None
            and self.logits_soft_cap == 0
            and self.sinks is None
            and query.dtype == cache.dtype == torch.bfloat16
            and load_native()
        )


@register_backend(AttentionBackendEnum.CPU_ATTN)
class CpuAttentionBackend(CPUAttentionBackend):
    @staticmethod
    def get_impl_cls() -> type[CpuAttention]:
        return CpuAttention
