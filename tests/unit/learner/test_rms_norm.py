"""The written-out RMS norm is transformers' own, and stands in for nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from pangu_rl.learner.rms_norm import replace_rms_norms, rms_norm
from tests.unit.learner.builders import llama


def test_by_hand() -> None:
    # mean of squares (9 + 16) / 2 = 12.5
    found = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)
    torch.testing.assert_close(found, torch.tensor([[3.0, 8.0]]) / 12.5**0.5)


@pytest.mark.parametrize(
    # bfloat16: one unit in the last place of outputs up to 8 and of sums of 60 gradients.
    ("dtype", "output", "gradient"),
    [(torch.float32, 2e-6, 2e-5), (torch.bfloat16, 2**-5, 0.5)],
)
def test_equals_transformers(dtype: torch.dtype, output: float, gradient: float) -> None:
    torch.manual_seed(0)
    module = LlamaRMSNorm(48, eps=1e-5).to(dtype)
    module.weight.data.uniform_(0.5, 2.0)
    x = torch.randn(2, 30, 48).to(dtype).requires_grad_()
    upstream = torch.randn(2, 30, 48).to(dtype)
    theirs, ours = module(x), rms_norm(x, module.weight, 1e-5)
    torch.testing.assert_close(ours, theirs, atol=output, rtol=0)
    expected = torch.autograd.grad(theirs, (x, module.weight), upstream)
    for mine, other in zip(torch.autograd.grad(ours, (x, module.weight), upstream), expected):
        torch.testing.assert_close(mine, other, atol=gradient, rtol=0)


def test_replaces_what_computes_the_same_and_nothing_else() -> None:
    assert replace_rms_norms(llama()) == 5  # two in each of two layers, and the last
    gemma = GemmaRMSNorm(8)
    gemma.variance_epsilon = gemma.eps  # Gemma's weight is an offset from 1
    gemma.weight.data.fill_(0.5)
    assert replace_rms_norms(gemma) == 0
