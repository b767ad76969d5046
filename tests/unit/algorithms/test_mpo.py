"""MPO's three losses on values worked by hand, shares that add up, and the running shift."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pangu_rl.algorithms.mpo import RunningShift, generation_loss, mpo_loss, preference_loss, quality_loss

CHOSEN, REJECTED = torch.tensor([-10.0, -6.0, -3.0]), torch.tensor([-20.0, -4.0, -9.0])
REF_CHOSEN, REF_REJECTED = torch.tensor([-20.0, -6.0, -3.0]), torch.tensor([-10.0, -14.0, -9.0])
LENGTHS = torch.tensor([5.0, 3.0, 4.0])
"""With beta 0.1 the rewards are (1, -1), (0, 1) and (0, 0)."""


def softplus(x: float) -> float:
    """-log sigmoid(-x)"""
    return math.log1p(math.exp(x))


def given(rows: slice = slice(None)) -> tuple[torch.Tensor, ...]:
    return tuple(tensor[rows] for tensor in (CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, LENGTHS))


def test_the_parts_by_hand() -> None:
    """Margins 2, -1, 0: preference ln(1 + e^-2), ln(1 + e), ln 2.

    Shift 1/4: quality ln(1 + e^-(1 - 1/4)) + ln(1 + e^(-1 - 1/4)), and so on. Generation 10/5, 6/3, 3/4.
    """
    chosen, rejected = torch.tensor([1.0, 0, 0]), torch.tensor([-1.0, 1, 0])
    expected = torch.tensor([softplus(-2), softplus(1), math.log(2)])
    torch.testing.assert_close(preference_loss(chosen, rejected), expected)
    expected = [softplus(-0.75) + softplus(-1.25), softplus(0.25) + softplus(0.75), softplus(0.25) + softplus(-0.25)]
    torch.testing.assert_close(quality_loss(chosen, rejected, 0.25), torch.tensor(expected))
    torch.testing.assert_close(generation_loss(CHOSEN, LENGTHS), torch.tensor([2.0, 2.0, 0.75]))


def test_the_sum_and_its_metrics_by_hand() -> None:
    loss, metrics = mpo_loss(*given(), reward_shift=0.25)
    preference = (softplus(-2) + softplus(1) + math.log(2)) / 3
    quality = (softplus(-0.75) + softplus(-1.25) + 2 * softplus(0.25) + softplus(0.75) + softplus(-0.25)) / 3
    assert loss.item() == pytest.approx(0.8 * preference + 0.2 * quality + 4.75 / 3, rel=1e-6)
    expected = {
        "loss_preference": preference,
        "loss_quality": quality,
        "loss_generation": 4.75 / 3,
        "reward_chosen": 1 / 3,
        "reward_rejected": 0.0,
        "reward_margin": 1 / 3,
        "accuracy": 1 / 3,
    }
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(expected, abs=1e-6)


def test_plain_dpo_is_the_preference_loss_alone() -> None:
    """d/d log pi_c of -log sigmoid(0.1 m) / 3 is -0.1 sigmoid(-m) / 3, and the opposite for the rejected one."""
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    loss, _ = mpo_loss(chosen, rejected, *given()[2:], weights=(1.0, 0.0, 0.0), reward_shift=7.0)
    loss.backward()
    expected = -0.1 * torch.sigmoid(-torch.tensor([2.0, -1, 0])) / 3
    torch.testing.assert_close(chosen.grad, expected)
    torch.testing.assert_close(rejected.grad, -expected)


def test_beta_scales_the_rewards() -> None:
    _, metrics = mpo_loss(*given(), beta=0.3)
    assert metrics["reward_margin"].item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("parts", [[slice(0, 1), slice(1, 3)], [slice(0, 2), slice(2, 2), slice(2, 3)]])
def test_shares_of_micro_batches_add_up_to_the_whole(parts: list[slice]) -> None:
    """Also with a micro-batch that has no pair at all."""
    whole, expected = mpo_loss(*given(), reward_shift=0.5)
    shares = [mpo_loss(*given(part), reward_shift=0.5, denominator=3) for part in parts]
    torch.testing.assert_close(sum(loss for loss, _ in shares), whole)
    for name, value in expected.items():
        torch.testing.assert_close(sum(metrics[name] for _, metrics in shares), value)


def test_no_pair_is_a_loss_of_zero_that_can_go_backward() -> None:
    logp = torch.zeros(0, requires_grad=True)
    loss, metrics = mpo_loss(logp, logp, logp.detach(), logp.detach(), torch.zeros(0), denominator=8)
    loss.backward()
    assert loss.item() == 0
    assert not any(metrics.values())


def test_extreme_rewards_stay_finite() -> None:
    chosen = torch.tensor([-1e5], requires_grad=True)
    loss, _ = mpo_loss(chosen, torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([-1e5]), torch.tensor([10.0]))
    loss.backward()
    assert loss.isfinite()
    assert chosen.grad.isfinite().all()


def plain_shift(batches: list[float]) -> list[float]:
    """InternVL's rule in plain Python: the mean of all batch means so far, this batch's included, before its use."""
    shifts, seen = [], []
    for mean in batches:
        seen.append(mean)
        shifts.append(sum(seen) / len(seen))
    return shifts


def test_the_running_shift_is_the_mean_of_all_batch_means() -> None:
    batches = torch.randn(200, generator=torch.Generator().manual_seed(0)).double().tolist()
    shift = RunningShift()
    assert [shift.update(mean) for mean in batches] == pytest.approx(plain_shift(batches), abs=1e-12)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_leaves_the_running_shift_as_it_was(broken: float) -> None:
    shift = RunningShift()
    shift.update(0.5)
    assert shift.update(broken) == 0.5
    assert shift.update(1.5) == 1.0


def test_the_running_shift_goes_on_exactly_from_its_json() -> None:
    first, second = RunningShift(), RunningShift()
    for mean in (0.1, -0.7, 1 / 3):
        first.update(mean)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.update(0.2) == first.update(0.2)
