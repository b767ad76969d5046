"""Attention within segments by each device, with stand-ins that compute what the kernels' documents say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from pangu_rl.accelerators.ops import attend_within
from tests.ascend.cpu_operators import npu_operators

LENGTHS = (3, 5, 3, 1)
SCALE = 0.7


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(3, 12, 2, 16).unbind(0))


def between(query: Tensor, key: Tensor, value: Tensor, ends: list[int], scale: float) -> Tensor:
    """Softmax attention within [0, ends[0]), [ends[0], ends[1]), ... in the dtype of the inputs."""
    parts, start = [], 0
    for end in ends:
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        parts.append(((q @ k.mT) * scale).softmax(-1).matmul(v).transpose(0, 1))
        start = end
    return torch.cat(parts)


def test_the_reference(inputs):
    expected = between(*inputs, [3, 8, 11, 12], SCALE)
    torch.testing.assert_close(attend_within(*inputs, LENGTHS, SCALE), expected, rtol=0, atol=1e-6)


def test_npu_gets_the_layout_tnd_with_cumulative_host_lists(inputs):
    with npu_operators() as calls:
        found = attend_within.kernels["npu"].call(*inputs, LENGTHS, SCALE)
    assert [call.query_ends for call in calls] == [[3, 8, 11, 12]]
    torch.testing.assert_close(found, attend_within.reference(*inputs, LENGTHS, SCALE), rtol=0, atol=1e-6)


def test_npu_attends_over_more_segments_than_a_call_takes():
    """1,536 windows of a pack of 24,576 patches, here of 1 to 3 patches: calls of 1,024 and of 512."""
    lengths = (1, 3, 2) * 512
    torch.manual_seed(0)
    inputs = torch.randn(3, sum(lengths), 1, 16).unbind(0)
    with npu_operators() as calls:
        found = attend_within.kernels["npu"].call(*inputs, lengths, SCALE)
    assert [len(call.query_ends) for call in calls] == [1024, 512]
    torch.testing.assert_close(found, attend_within.reference(*inputs, lengths, SCALE), rtol=0, atol=1e-5)


def test_cuda_gets_cumulative_lengths_from_zero(inputs, monkeypatch):
    calls = []

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale):
        calls.append((cu_seq_q.tolist(), cu_seq_k.tolist(), cu_seq_q.dtype, max_q, max_k))
        return between(query, key, value, cu_seq_q.tolist()[1:], scale)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    found = attend_within.kernels["cuda"].call(*(tensor.bfloat16() for tensor in inputs), LENGTHS, SCALE)
    torch.testing.assert_close(found.float(), attend_within(*inputs, LENGTHS, SCALE), rtol=0, atol=5e-2)
    assert calls == [([0, 3, 8, 11, 12], [0, 3, 8, 11, 12], torch.int32, 5, 5)]


@pytest.mark.parametrize(
    ("device", "size", "dtype"),
    [("cuda", 16, torch.float32), ("npu", 784, torch.bfloat16), ("npu", 16, torch.float64)],
)
def test_what_a_kernel_does_not_take_goes_to_the_reference(device, size, dtype):
    rows = torch.zeros(12, 2, size, dtype=dtype)
    assert attend_within.kernels[device].refuses(rows, rows, rows, LENGTHS, SCALE)
