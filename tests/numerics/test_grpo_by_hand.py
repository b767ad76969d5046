"""The GRPO loss and its metrics against arithmetic done on paper, written out in each docstring."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.grpo import grpo_loss
from pangu_rl.algorithms.importance_weights import Correction
from pangu_rl.algorithms.policy_metrics import mean_metrics

LOG = math.log


def close(actual: Tensor, expected: float) -> None:
    """1e-6: a handful of float32 operations on numbers near 1 (unit roundoff 6e-8)."""
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=1e-6)


def means(metrics: dict[str, Tensor]) -> dict[str, float]:
    return mean_metrics({name: value.item() for name, value in metrics.items()})


# Two completions, of 3 tokens and of 1, padded to [2, 3]; ratios 1.5, 0.5, 1.1 with A = 2 and 0.6 with A = -1.
OLD = torch.full((2, 3), -1.0)
RATIO = torch.tensor([[1.5, 0.5, 1.1], [0.6, 9.0, 9.0]])
ADVANTAGES = torch.tensor([[2.0, 2.0, 2.0], [-1.0, 7.0, 7.0]])
MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.mark.parametrize(
    ("aggregation", "denominator", "expected"),
    [("token", 4, -1.24), ("sequence", 2, -0.56), ("sequence_sum", 2 * 10, -0.248)],
)
def test_loss_of_two_completions(aggregation: str, denominator: float, expected: float) -> None:
    """Clip range [0.8, 1.28].
    A = 2:  r 1.5 -> min(3.0, 2.56) = 2.56;  r 0.5 -> min(1.0, 1.6) = 1.0;  r 1.1 -> 2.2;  sum 5.76, mean 1.92
    A = -1: r 0.6 -> min(-0.6, -0.8) = -0.8
    token:        -(5.76 - 0.8) / 4 tokens           = -1.24
    sequence:     -(1.92 - 0.8) / 2 sequences        = -0.56
    sequence_sum: -(5.76 - 0.8) / (2 x length 10)    = -0.248
    """
    logp = OLD + RATIO.log()
    loss, _ = grpo_loss(
        logp,
        OLD,
        ADVANTAGES,
        MASK,
        denominator=denominator,
        aggregation=aggregation,  # type: ignore[arg-type]
    )
    close(loss, expected)
    flat_loss, _ = grpo_loss(
        logp[MASK],
        OLD[MASK],
        ADVANTAGES[MASK],
        torch.ones(4, dtype=torch.bool),
        sequence_ids=torch.tensor([31, 31, 31, 4]),
        denominator=denominator,
        aggregation=aggregation,  # type: ignore[arg-type]
    )
    close(flat_loss, expected)


def test_gradient_is_zero_on_clipped_tokens_alone() -> None:
    """dl/dlogp = -r A / 4 where the clip does not act: r 0.5: -0.25, r 1.1: -0.55; r 1.5 and 0.6 are clipped: 0."""
    logp = (OLD + RATIO.log()).requires_grad_()
    loss, _ = grpo_loss(logp, OLD, ADVANTAGES, MASK, denominator=4)
    loss.backward()
    expected = torch.tensor([[0.0, -0.25, -0.55], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(logp.grad, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("ratio", "advantage"), [(0.5, 1.0), (1.5, -1.0)])
def test_a_ratio_that_moved_the_wrong_way_is_not_clipped(ratio: float, advantage: float) -> None:
    """Outside the range but against the advantage: min() takes the unclipped term, gradient -r A."""
    logp = torch.tensor([LOG(ratio)], requires_grad=True)
    loss, metrics = grpo_loss(logp, torch.zeros(1), torch.tensor([advantage]), torch.tensor([True]), denominator=1)
    loss.backward()
    close(logp.grad[0], -ratio * advantage)
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0


@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_gradient_descent_follows_the_sign_of_the_advantage(advantage: float) -> None:
    logp = torch.tensor([-0.7, -2.0], requires_grad=True)
    loss, _ = grpo_loss(logp, None, torch.full((2,), advantage), torch.ones(2, dtype=torch.bool), denominator=2)
    loss.backward()
    assert torch.equal(torch.sign(-logp.grad), torch.full((2,), math.copysign(1.0, advantage)))


@pytest.mark.parametrize("frozen", [False, True])
def test_first_update_is_the_policy_gradient(frozen: bool) -> None:
    """Ratio 1: the gradient is that of -sum(A logp) / denominator, to the bit; no clipping, no KL."""
    logp = torch.tensor([-0.3, -4.0, -1.25, -0.01], requires_grad=True)
    advantages = torch.tensor([0.5, -1.0, 2.0, 0.0])
    loss, metrics = grpo_loss(
        logp, logp.detach().clone() if frozen else None, advantages, torch.ones(4, dtype=torch.bool), denominator=8
    )
    loss.backward()
    assert torch.equal(logp.grad, -advantages / 8)
    mean = means(metrics)
    assert mean["ratio"] == mean["ratio_max"] == 1
    assert mean["kl_old"] == mean["clip_fraction_low"] == mean["clip_fraction_high"] == 0


def test_metrics_worked_by_hand() -> None:
    """Four tokens: one clipped high (1.5, A > 0), one clipped low (0.6, A < 0): 1/4 each.
    ratio: (1.5 + 0.5 + 1.1 + 0.6) / 4 = 0.925, max 1.5
    KL(old || new), k3 = r - 1 - ln r: 0.5 - 0.405465, -0.5 + 0.693147, 0.1 - 0.095310, -0.4 + 0.510826
                                     = 0.094535 + 0.193147 + 0.004690 + 0.110826 = 0.403198, / 4 = 0.100799
    """
    _, metrics = grpo_loss(OLD + RATIO.log(), OLD, ADVANTAGES, MASK, denominator=10)
    assert all(value.ndim == 0 for value in metrics.values())
    expected = {
        "clip_fraction_low": 0.25,
        "clip_fraction_high": 0.25,
        "ratio": 0.925,
        "ratio_max": 1.5,
        "kl_old": 0.100799,
    }
    assert means(metrics) == pytest.approx(expected, abs=2e-6)


def test_mismatch_and_truncated_importance_sampling() -> None:
    """Learner (frozen) log-probs -1, -1, -1, -1; sampler -1, -1.6, -0.5, -inf; d = 0, 0.6, -0.5; cap 1.5.
    weights: e^0 = 1; e^0.6 = 1.822119 -> 1.5 (1 of 4 cut); e^-0.5 = 0.606531; -inf: left at 1 and counted, 1 of 4
    loss, A = 1, ratio 1: -(1 + 1.5 + 0.606531 + 1) / 4 = -1.026633
    mean |d| = 1.1 / 3 = 0.366667; mean exp|d| = (1 + 1.822119 + 1.648721) / 3 = 1.490280; max 0.6
    k3 = e^d - 1 - d: 0 + 0.222119 + 0.106531 = 0.328650, / 3 = 0.109550
    """
    old = torch.full((4,), -1.0)
    logp = old.clone().requires_grad_()
    sampler = torch.tensor([-1.0, -1.6, -0.5, -math.inf])
    loss, metrics = grpo_loss(
        logp,
        old,
        torch.ones(4),
        torch.ones(4, dtype=torch.bool),
        denominator=4,
        sampler_logp=sampler,
        correction=Correction(high=1.5),
    )
    close(loss, -1.026633)
    loss.backward()
    torch.testing.assert_close(logp.grad, -torch.tensor([1.0, 1.5, 0.606531, 1.0]) / 4, rtol=0, atol=1e-6)
    expected = {
        "logprob_diff": 0.366667,
        "logprob_diff_exp": 1.490280,
        "logprob_diff_max": 0.6,
        "sampler_kl": 0.109550,
        "correction_outside": 0.25,
        "correction_weight": 1.026633,
        "sampler_nonfinite": 0.25,
    }
    mean = means(metrics)
    assert {name: mean[name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_sampler_log_probs_alone_do_not_change_the_loss() -> None:
    logp = OLD + RATIO.log()
    plain, _ = grpo_loss(logp, OLD, ADVANTAGES, MASK, denominator=4)
    watched, metrics = grpo_loss(logp, OLD, ADVANTAGES, MASK, denominator=4, sampler_logp=OLD - 0.5)
    assert torch.equal(plain, watched)
    assert "correction_outside" not in metrics


def test_correction_without_sampler_log_probs_is_refused() -> None:
    with pytest.raises(ValueError, match="no sampler log-probs for the token correction"):
        grpo_loss(OLD, OLD, ADVANTAGES, MASK, denominator=4, correction=Correction(high=2.0))
