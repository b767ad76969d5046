"""Attention within segments against a dense masked softmax in float64, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pretrain.models.varlen import varlen_attention

LENGTHS = [[7], [4, 4, 4], [64, 32, 64, 16, 8, 64], [1, 5, 1, 300, 2, 5]]


def dense(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:
    segment = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    scores = torch.einsum("phd,qhd->hpq", query, key) * scale
    scores = scores.masked_fill(segment[:, None] != segment[None, :], float("-inf"))
    return torch.einsum("hpq,qhd->phd", scores.softmax(dim=-1), value)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
def test_equals_a_dense_masked_softmax(lengths, dtype, tolerance):
    """A token of the wrong segment would move an output by about 1 / length; bfloat16 keeps 2 to 3 digits of it."""
    torch.manual_seed(0)
    inputs = torch.randn(sum(lengths), 3, 2, 16).to(dtype)
    probe = torch.randn(sum(lengths), 2, 16)
    found, expected = inputs.clone().requires_grad_(), inputs.double().requires_grad_()
    out = varlen_attention(*found.unbind(1), lengths, 0.3)
    reference = dense(*expected.unbind(1), lengths, 0.3)
    torch.testing.assert_close(out.double(), reference, rtol=0, atol=tolerance)
    (out.float() * probe).sum().backward()
    (reference * probe).sum().backward()
    torch.testing.assert_close(found.grad.double(), expected.grad, rtol=0, atol=3 * tolerance)


def test_lengths_may_be_a_tensor_and_must_fill_the_queries():
    query = torch.randn(6, 2, 4)
    found = varlen_attention(query, query, query, torch.tensor([2, 4]), 0.5)
    assert torch.equal(found, varlen_attention(query, query, query, [2, 4], 0.5))
    with pytest.raises(ValueError, match="7 tokens in all for queries of 6"):
        varlen_attention(query, query, query, [3, 4], 0.5)


def test_a_layout_first_seen_in_inference_mode_serves_training():
    lengths = [3, 2, 9]
    with torch.inference_mode():
        varlen_attention(*torch.randn(3, 14, 1, 4), lengths, 1.0)
    query = torch.randn(14, 1, 4, requires_grad=True)
    varlen_attention(query, query, query, lengths, 1.0).sum().backward()
    assert query.grad is not None
