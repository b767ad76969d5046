"""Log-probs in chunks equal the naive ones: values, gradients, temperature, chunk size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pangu_rl.learner import chunked_logprobs
from pangu_rl.learner.chunked_logprobs import target_logprobs


def example(rows: int = 150, vocabulary: int = 311) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(rows, 16, requires_grad=True)
    weight = torch.randn(vocabulary, 16, requires_grad=True)
    return hidden, weight, torch.randint(vocabulary, (rows,)), torch.randn(rows)


def naive(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, cap: float | None = None
) -> tuple[Tensor, Tensor]:
    logits = hidden.double() @ weight.double().t()
    if cap is not None:
        logits = cap * (logits / cap).tanh()
    logp = (logits / temperature).log_softmax(-1)
    return logp.gather(1, targets[:, None]).squeeze(1), -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [1, 64, 100, 150, 1024])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_equals_the_naive_computation(temperature: float, chunk: int, cap: float | None) -> None:
    """Of logits of deviation 4, up to 20, a cap of 3 changes every one."""
    hidden, weight, targets, upstream = example()
    logp, entropy = target_logprobs(hidden, weight, targets, temperature=temperature, cap=cap, chunk=chunk)
    expected, expected_entropy = naive(hidden, weight, targets, temperature, cap)
    # Logits up to 20 in float32: 2e-6 of rounding each, and the entropy multiplies by them.
    torch.testing.assert_close(logp.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy.double(), expected_entropy, atol=3e-5, rtol=0)
    found = torch.autograd.grad((logp * upstream).sum(), (hidden, weight))
    wanted = torch.autograd.grad((expected * upstream).sum(), (hidden, weight))
    for mine, theirs in zip(found, wanted):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_gradients_of_chunks_are_summed_in_float32_without_a_copy_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of two at a time, to the bit what whole gradients give."""
    monkeypatch.setattr(chunked_logprobs, "TILE", 32)
    grads = [torch.randn(5, 16).bfloat16() for _ in range(3)]
    total = None
    for grad in grads:
        total = chunked_logprobs._summed(total, grad)
    assert torch.equal(total, grads[0].float() + grads[1].float() + grads[2].float())


def test_an_all_but_impossible_target_has_a_finite_log_prob() -> None:
    """exp(-150) is 0 in float32, its logarithm here is not."""
    hidden = torch.tensor([[1.0]])
    weight = torch.tensor([[0.0], [150.0]])
    logp, entropy = target_logprobs(hidden, weight, torch.tensor([0]))
    assert logp.item() == -150.0
    assert entropy.item() == pytest.approx(0.0, abs=1e-6)


def test_uniform_logits_have_the_entropy_of_the_vocabulary() -> None:
    logp, entropy = target_logprobs(torch.zeros(2, 4), torch.randn(8, 4), torch.tensor([3, 5]))
    torch.testing.assert_close(logp, torch.full((2,), -torch.log(torch.tensor(8.0))))
    torch.testing.assert_close(entropy, torch.full((2,), torch.log(torch.tensor(8.0))))


def test_no_target_gives_zero_gradients_not_none() -> None:
    hidden, weight, *_ = example()
    logp, _ = target_logprobs(hidden[:0], weight, torch.zeros(0, dtype=torch.int64))
    found = torch.autograd.grad(logp.sum(), (hidden, weight))
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in found)


def test_a_capped_logit_by_hand() -> None:
    """Logits (ln 2, 0) under a cap of ln 2 become (a, 0), a = ln 2 tanh 1 = 0.527897; at temperature 2 p of the first
    is 1 / (1 + exp(-a / 2)) = 0.565607, and d log p / d hidden = (1 - p) (1 - tanh(1)^2) / 2 = 0.091217."""
    hidden = torch.tensor([[math.log(2)]], requires_grad=True)
    logp, _ = target_logprobs(hidden, torch.tensor([[1.0], [0.0]]), torch.tensor([0]), temperature=2, cap=math.log(2))
    logp.sum().backward()
    assert logp.item() == pytest.approx(math.log(0.565607), abs=2e-6)
    assert hidden.grad.item() == pytest.approx(0.091217, abs=2e-6)


@pytest.mark.parametrize("cap", [None, 3.0])
def test_bfloat16_gradients_follow_the_float32_ones(cap: float | None) -> None:
    hidden, weight, targets, upstream = example()
    half = [x.detach().bfloat16().requires_grad_() for x in (hidden, weight)]
    logp, _ = target_logprobs(*half, targets, cap=cap, chunk=64)
    expected, _ = naive(half[0].float(), half[1].float(), targets, 1.0, cap)
    # A bfloat16 logit of 16 is off by up to 2^-4 / 2.
    torch.testing.assert_close(logp.double(), expected, atol=0.08, rtol=0)
    found = torch.autograd.grad((logp * upstream).sum(), half)
    wanted = torch.autograd.grad((expected * upstream).sum(), half)
    for mine, theirs in zip(found, wanted):
        assert mine.dtype is torch.bfloat16
        assert torch.nn.functional.cosine_similarity(mine.float().flatten(), theirs.float().flatten(), dim=0) > 0.999
