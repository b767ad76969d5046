"""Variable-length attention of the devices, with stand-ins that compute what the kernels' documents say."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from pangu_rl.accelerators import get_accelerator

CPU, CUDA, NPU = (get_accelerator(name) for name in ("cpu", "cuda", "npu"))
LENGTHS = (3, 5, 3, 1)
SCALE = 0.7


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(3, 12, 2, 8).unbind(0))


def between(query: Tensor, key: Tensor, value: Tensor, ends: list[int], scale: float) -> Tensor:
    """Softmax attention within [0, ends[0]), [ends[0], ends[1]), ... in the dtype of the inputs."""
    parts, start = [], 0
    for end in ends:
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        parts.append(((q @ k.mT) * scale).softmax(-1).matmul(v).transpose(0, 1))
        start = end
    return torch.cat(parts)


def test_cpu(inputs):
    expected = between(*inputs, [3, 8, 11, 12], SCALE)
    torch.testing.assert_close(CPU.varlen_attention(*inputs, LENGTHS, SCALE), expected, rtol=0, atol=1e-6)


def test_npu_gets_the_layout_tnd_with_cumulative_host_lists(inputs, monkeypatch):
    def npu_fusion_attention(query, key, value, head_num, input_layout, *, scale, actual_seq_qlen, actual_seq_kvlen):
        assert (head_num, input_layout) == (2, "TND")
        assert actual_seq_qlen == actual_seq_kvlen == [3, 8, 11, 12]
        return between(query, key, value, actual_seq_qlen, scale), None, None, None, 0, 0, 0

    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace(npu_fusion_attention=npu_fusion_attention))
    expected = CPU.varlen_attention(*inputs, LENGTHS, SCALE)
    torch.testing.assert_close(NPU.varlen_attention(*inputs, LENGTHS, SCALE), expected, rtol=0, atol=1e-6)


def test_cuda_gets_cumulative_lengths_from_zero_and_float32_goes_elsewhere(inputs, monkeypatch):
    calls = []

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale):
        calls.append((cu_seq_q.tolist(), cu_seq_k.tolist(), cu_seq_q.dtype, max_q, max_k))
        return between(query, key, value, cu_seq_q.tolist()[1:], scale)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    expected = CPU.varlen_attention(*inputs, LENGTHS, SCALE)
    torch.testing.assert_close(CUDA.varlen_attention(*inputs, LENGTHS, SCALE), expected, rtol=0, atol=1e-6)
    assert not calls
    found = CUDA.varlen_attention(*(tensor.bfloat16() for tensor in inputs), LENGTHS, SCALE)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=5e-2)
    assert calls == [([0, 3, 8, 11, 12], [0, 3, 8, 11, 12], torch.int32, 5, 5)]
