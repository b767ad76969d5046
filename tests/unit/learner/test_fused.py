"""A model's operations are replaced where they compute the same, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from pangu_rl.accelerators.ops import rms_norm
from pangu_rl.learner.fused import fuse_operations
from tests.unit.learner.builders import llama
from tests.unit.learner.families import tiny


@pytest.mark.parametrize(
    # bfloat16: one unit in the last place of outputs up to 8 and of sums of 60 gradients.
    ("dtype", "output", "gradient"),
    [(torch.float32, 2e-6, 2e-5), (torch.bfloat16, 2**-5, 0.5)],
)
def test_the_norm_equals_transformers(dtype: torch.dtype, output: float, gradient: float) -> None:
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


def test_finds_every_operation_of_a_llama_and_keeps_its_logits() -> None:
    plain, fused = llama(), llama()
    # Norms: two in each of two layers, and the last. Layers: seven a layer, and the head.
    assert fuse_operations(fused) == {"linear": 15, "gated": 2, "rms_norm": 5, "rotary": 1}
    ids = torch.randint(0, 97, (2, 9))
    torch.testing.assert_close(fused(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "dtype", "limit"),
    # Half of each head turns; angles are float32 whatever the model is (a bfloat16 is known to 2^-9 of itself).
    [("glm4_moe", torch.float32, 1e-5), ("olmo2", torch.bfloat16, 2**-4)],
)
def test_rotary_positions_of_another_kind_stay_the_models_own(family: str, dtype: torch.dtype, limit: float) -> None:
    lm, ids = tiny(family, dtype), torch.arange(9)[None]
    with torch.no_grad():
        before = lm(input_ids=ids).logits
        fuse_operations(lm)
        after = lm(input_ids=ids).logits
    assert after.dtype is dtype
    torch.testing.assert_close(after, before, atol=limit * before.abs().max().item(), rtol=0)


def test_a_norm_whose_weight_is_an_offset_from_1_is_left_alone() -> None:
    gemma = GemmaRMSNorm(8)
    gemma.variance_epsilon = gemma.eps
    gemma.weight.data.fill_(0.5)
    assert "rms_norm" not in fuse_operations(gemma)


def test_weights_that_hide_what_a_norm_computes_hide_nothing() -> None:
    class TripledRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return 3 * self.weight * hidden_states

    norm = TripledRMSNorm(8)
    norm.weight.data.zero_()
    assert "rms_norm" not in fuse_operations(norm)


class Perceptron(nn.Module):
    """Like transformers' own but for what `act_fn` is and `limit` does."""

    def __init__(self, act_fn: nn.Module, limit: float | None = None) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(4, 6), nn.Linear(4, 6)
        self.down_proj, self.act_fn, self.limit = nn.Linear(6, 4), act_fn, limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)).clamp(max=self.limit) * self.up_proj(x))


class PlainPerceptron(Perceptron):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (PlainPerceptron(nn.SiLU()), 1),
        (PlainPerceptron(nn.GELU(approximate="tanh")), 1),
        (PlainPerceptron(nn.ReLU()), 0),
        (Perceptron(nn.SiLU(), limit=1.0), 0),
    ],
)
def test_a_perceptron_counts_by_what_it_computes(module: nn.Module, found: int) -> None:
    x = torch.randn(3, 4)
    before = module(x)
    assert fuse_operations(module).get("gated", 0) == found
    torch.testing.assert_close(module(x), before, atol=1e-5, rtol=1e-5)
