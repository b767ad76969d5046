"""GSPO, CISPO and the importance weights against arithmetic done on paper, written out in each docstring."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.grpo import grpo_loss
from pangu_rl.algorithms.importance_weights import Correction, importance_weights
from pangu_rl.algorithms.policy_metrics import mean_metrics

IDS = torch.tensor([31, 4, 31, 4])
"""Two answers of two tokens each, their tokens mixed in the pack."""
RATIO = torch.tensor([1.5, 0.8, 0.96, 0.8])
ADVANTAGES = torch.tensor([2.0, -1.0, 2.0, -1.0])
ALL = torch.ones(4, dtype=torch.bool)


def close(actual: Tensor, expected: list[float] | float) -> None:
    """1e-6: a handful of float32 operations on numbers near 1 (unit roundoff 6e-8)."""
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=1e-6)


def test_gspo() -> None:
    """Answer 31: s = sqrt(1.5 * 0.96) = 1.2, A = 2; answer 4: s = sqrt(0.64) = 0.8, A = -1; both in [0.75, 1.3].
    loss = -(2.4 - 0.8) / 2 answers = -0.8
    ds/dlogp = s / 2 of each of its two tokens: -2 * 1.2 / 2 / 2 = -0.6 and 0.8 / 2 / 2 = 0.2
    GRPO would clip the token of ratio 1.5: -(2 * (1.3 + 0.96) / 2 - 0.8) / 2 = -0.73.
    """
    logp = RATIO.log().requires_grad_()
    options = {"sequence_ids": IDS, "clip_low": 0.25, "clip_high": 0.3, "denominator": 2, "aggregation": "sequence"}
    loss, metrics = grpo_loss(logp, torch.zeros(4), ADVANTAGES, ALL, loss="gspo", **options)
    loss.backward()
    close(loss, -0.8)
    close(logp.grad, [-0.6, 0.2, -0.6, 0.2])
    mean = mean_metrics({name: value.item() for name, value in metrics.items()})
    assert mean["ratio"] == pytest.approx(1.0) and mean["ratio_max"] == pytest.approx(1.2)
    close(grpo_loss(logp, torch.zeros(4), ADVANTAGES, ALL, **options)[0], -0.73)


def test_gspo_clips_whole_answers() -> None:
    """s = 1.2 above 1.1 with A > 0 and s = 0.8 below 0.9 with A < 0: -(2 * 1.1 - 0.9) / 2 = -0.65, no gradient."""
    logp = RATIO.log().requires_grad_()
    loss, metrics = grpo_loss(
        logp,
        torch.zeros(4),
        ADVANTAGES,
        ALL,
        loss="gspo",
        sequence_ids=IDS,
        clip_low=0.1,
        clip_high=0.1,
        denominator=2,
        aggregation="sequence",
    )
    loss.backward()
    close(loss, -0.65)
    close(logp.grad, [0.0] * 4)
    mean = mean_metrics({name: value.item() for name, value in metrics.items()})
    assert (mean["clip_fraction_low"], mean["clip_fraction_high"]) == (0.5, 0.5)


def test_the_first_update_of_gspo_is_the_policy_gradient() -> None:
    """s = 1: -A / length of the answer / answers, = -2 / 2 / 2 and 1 / 2 / 2."""
    logp = RATIO.log().requires_grad_()
    loss, _ = grpo_loss(
        logp, None, ADVANTAGES, ALL, loss="gspo", sequence_ids=IDS, denominator=2, aggregation="sequence"
    )
    loss.backward()
    close(logp.grad, [-0.5, 0.25, -0.5, 0.25])


def test_cispo() -> None:
    """Weights min(r, 1.2): 1.2 (cut), 0.8, 0.96, 0.8; gradient -w A / 4 tokens, also where the weight is cut.
    loss = -(1.2 * 2 ln 1.5 + 0.96 * 2 ln 0.96 - 2 * 0.8 ln 0.8) / 4 = -(0.973116 - 0.078378 + 0.357030) / 4
         = -0.312942
    """
    logp = RATIO.log().requires_grad_()
    loss, metrics = grpo_loss(
        logp, torch.zeros(4), ADVANTAGES, ALL, loss="cispo", clip_low=None, clip_high=0.2, denominator=4
    )
    loss.backward()
    close(loss, -0.312942)
    close(logp.grad, [-0.6, 0.2, -0.48, 0.2])
    assert (metrics["clip_fraction_low"], metrics["clip_fraction_high"]) == (0, 0.25)


def test_cispo_bounds_the_weight_whatever_the_sign_of_the_advantage() -> None:
    logp = torch.tensor([math.log(9.0)], requires_grad=True)
    loss, metrics = grpo_loss(
        logp, torch.zeros(1), torch.tensor([-1.0]), ALL[:1], loss="cispo", clip_low=None, clip_high=4.0, denominator=1
    )
    loss.backward()
    close(logp.grad, [5.0])
    assert metrics["clip_fraction_high"] == 1


DIFFERENCE = torch.tensor([0.5, -0.2, -0.1, 0.0])
KNOWN = torch.tensor([True, True, True, False])


@pytest.mark.parametrize(
    ("level", "outside", "weights", "cut"),
    [
        ("token", "truncate", [1.3, 0.9, 0.904837, 1.0], [1, 1, 0, 0]),
        ("token", "mask", [0.0, 0.0, 0.904837, 1.0], [1, 1, 0, 0]),
        ("sequence", "truncate", [1.3, 0.9, 1.3, 0.9], [1, 1, 1, 1]),
        ("sequence", "mask", [0.0] * 4, [1, 1, 1, 1]),
        ("geometric", "truncate", [1.221403, 0.9, 1.221403, 0.9], [0, 1, 0, 1]),
        ("geometric", "mask", [1.221403, 0.0, 1.221403, 0.0], [0, 1, 0, 1]),
    ],
)
def test_importance_weights(level: str, outside: str, weights: list[float], cut: list[int]) -> None:
    """Bounds 0.9 and 1.3. Answer 31: d = 0.5, -0.1; answer 4: d = -0.2 and a token that the sampler says nothing of.
    token: e^0.5 = 1.648721, e^-0.2 = 0.818731, e^-0.1 = 0.904837, 1
    sequence: e^0.4 = 1.491825, e^-0.2;   geometric: e^0.2 = 1.221403, e^-0.2 (the unknown token counts in no mean)
    """
    correction = Correction(level=level, outside=outside, low=0.9, high=1.3)  # type: ignore[arg-type]
    found, out = importance_weights(DIFFERENCE, KNOWN, correction, IDS)
    close(found, weights)
    assert out.int().tolist() == cut


def test_without_a_lower_bound_small_weights_stay() -> None:
    found, out = importance_weights(
        torch.tensor([-50.0, 2000.0]), ALL[:2], Correction(high=2.0, outside="mask"), torch.tensor([0, 1])
    )
    assert found[0] == torch.tensor(-50.0).exp() and found[1] == 0
    assert out.tolist() == [False, True]


def test_a_masked_answer_is_counted_in_the_denominator() -> None:
    """Answer 31 leaves the loss, e^0.8 > 2: what is left is answer 4, weight 1, over all four tokens: 2 / 4."""
    sampler = torch.tensor([-0.5, 0.0, -0.3, 0.0])
    loss, metrics = grpo_loss(
        torch.zeros(4),
        None,
        ADVANTAGES,
        ALL,
        sequence_ids=IDS,
        denominator=4,
        sampler_logp=sampler,
        correction=Correction(level="sequence", outside="mask", high=2.0),
    )
    assert loss == 0.5
    assert metrics["correction_weight"] == metrics["correction_outside"] == 0.5
