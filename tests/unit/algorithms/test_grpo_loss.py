"""What must not change the GRPO loss: padding, splitting, order, rows of advantage 0; and the edges of its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.grpo import grpo_loss
from pangu_rl.algorithms.importance_weights import Correction
from pangu_rl.algorithms.policy_metrics import mean_metrics
from pangu_rl.data.packs.batching import split_ranks
from pangu_rl.records import MiniBatch
from tests.unit.data.groups import make_group, pack_groups

LENGTHS = (5, 1, 9, 3, 7, 2, 4, 6)
ADVANTAGES = (1.2, -0.7, 0.4, -0.9, 1.0, 0.8, -1.8, 0.5)


def synthetic(seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Per completion: old log-probs, and how far the new ones moved (ratios from about 0.5 to 2, so clipping acts)."""
    generator = torch.Generator().manual_seed(seed)
    old = [-2 * torch.rand(n, generator=generator) for n in LENGTHS]
    return old, [0.3 * torch.randn(n, generator=generator) for n in LENGTHS]


@dataclass(frozen=True)
class Setting:
    """A loss and its correction."""

    aggregation: str = "token"
    loss: str = "grpo"
    clip_high: float = 0.28
    correction: Correction | None = None

    def options(self, batch: MiniBatch) -> dict[str, Any]:
        count = batch.loss_tokens if self.aggregation == "token" else batch.loss_sequences
        return {
            "aggregation": self.aggregation,
            "loss": self.loss,
            "clip_low": None if self.loss == "cispo" else 0.2,
            "clip_high": self.clip_high,
            "correction": self.correction,
            "denominator": count * 16 if self.aggregation == "sequence_sum" else count,
        }


SETTINGS = [
    *(Setting(aggregation) for aggregation in ("token", "sequence", "sequence_sum")),
    Setting("sequence", "gspo", clip_high=0.02, correction=Correction(level="geometric", high=1.02)),
    Setting("token", "cispo", correction=Correction(level="sequence", outside="mask", high=1.2)),
    Setting("token", "grpo", correction=Correction(outside="mask", low=0.8, high=1.5)),
]


def run_sharded(setting: Setting, pack_tokens: int, ranks: int) -> tuple[float, list[Tensor], dict[str, float]]:
    """Pack, split over ranks, add the losses, gradients and metrics as learner ranks would."""
    old, moved = synthetic()
    logps = [(o + m).requires_grad_() for o, m in zip(old, moved, strict=True)]
    groups = [make_group(f"g{g}", 3, LENGTHS[4 * g : 4 * g + 4], ADVANTAGES[4 * g : 4 * g + 4]) for g in range(2)]
    batches = split_ranks(pack_groups(groups, pack_tokens), ranks, sum(LENGTHS), len(LENGTHS))
    losses, totals = [], []
    for batch in batches:
        for pack in batch.packs:
            sequences = torch.from_numpy(pack.sequence_ids)
            order, loss_inputs = list(dict.fromkeys(pack.sequence_ids.tolist())), []
            for values in (logps, old, sampler_of(old)):
                loss_inputs.append(torch.cat([torch.zeros(0), *[values[i] for i in order]]))
            loss, metrics = grpo_loss(
                *loss_inputs[:2],
                torch.from_numpy(pack.columns["advantages"]),
                torch.ones(len(sequences), dtype=torch.bool),
                sequence_ids=sequences,
                sampler_logp=loss_inputs[2],
                **setting.options(batch),
            )
            losses.append(loss)
            totals.append({name: value.item() for name, value in metrics.items()})
    total = torch.stack(losses).sum()
    total.backward()
    return total.item(), [logp.grad for logp in logps], mean_metrics(combine(totals))


def sampler_of(old: Sequence[Tensor]) -> list[Tensor]:
    """The sampler's log-probs: weights from about 0.5 to 2, one of them unknown."""
    generator = torch.Generator().manual_seed(7)
    found = [values + 0.3 * torch.randn(len(values), generator=generator) for values in old]
    found[2][4] = -math.inf
    return found


def combine(totals: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: (max if name.endswith("_max") else sum)(total[name] for total in totals) for name in totals[0]}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.loss}-{setting.aggregation}")
@pytest.mark.parametrize("pack_tokens", [1, 12, 24, 1000])
@pytest.mark.parametrize("ranks", [1, 2])
def test_micro_batches_and_ranks_do_not_change_loss_gradient_or_metrics(
    setting: Setting, pack_tokens: int, ranks: int
) -> None:
    """One padded [N, T] batch is the reference; packs of one sequence, of some, of all, on one rank or two.

    1e-6: 37 float32 terms of size up to 3, divided by 8 to 128, summed in another order.
    """
    old, moved = synthetic()
    width = max(LENGTHS)
    mask = torch.tensor([[t < n for t in range(width)] for n in LENGTHS])
    padded_old = torch.full(mask.shape, math.nan).masked_scatter(mask, torch.cat(old))
    padded = torch.full(mask.shape, math.nan).masked_scatter(mask, torch.cat(old) + torch.cat(moved)).requires_grad_()
    batch = MiniBatch(packs=(), loss_tokens=sum(LENGTHS), loss_sequences=len(LENGTHS))
    loss, metrics = grpo_loss(
        padded,
        padded_old,
        torch.tensor(ADVANTAGES)[:, None].expand(mask.shape),
        mask,
        sampler_logp=torch.full(mask.shape, math.nan).masked_scatter(mask, torch.cat(sampler_of(old))),
        **setting.options(batch),
    )
    loss.backward()
    reference = mean_metrics({name: value.item() for name, value in metrics.items()})
    assert reference["clip_fraction_high"] > 0
    assert setting.correction is None or 0 < reference["correction_outside"] < 1

    total, gradients, mean = run_sharded(setting, pack_tokens, ranks)
    assert total == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(torch.cat(gradients), padded.grad[mask], rtol=0, atol=1e-6)
    assert mean == pytest.approx(reference, abs=1e-6)


@pytest.mark.parametrize("loss", ["gspo", "cispo"])
@pytest.mark.parametrize("level", ["sequence", "geometric"])
def test_padding_may_hold_anything_beside_whole_sequences(loss: str, level: str) -> None:
    """Each row is a sequence whose sums NaN and infinity in its padding must not reach."""
    mask = torch.tensor([[True, False], [True, False]])
    junk = torch.tensor([[0.0, math.nan], [0.0, math.inf]])
    logp = (torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]) + junk).requires_grad_()
    value, metrics = grpo_loss(
        logp,
        torch.full((2, 2), -2.0) - junk,
        torch.tensor([[-1.0], [1.0]]) + junk,
        mask,
        loss=loss,  # type: ignore[arg-type]
        denominator=2,
        aggregation="sequence",
        sampler_logp=torch.full((2, 2), -1.5) + junk,
        correction=Correction(level=level, high=2.0),  # type: ignore[arg-type]
    )
    value.backward()
    assert value.isfinite() and all(metric.isfinite() for metric in metrics.values())
    assert torch.equal(logp.grad != 0, mask) and logp.grad.isfinite().all()


def test_padding_may_hold_anything() -> None:
    """NaN and infinity outside the mask touch neither the loss nor the gradient, in any input."""
    mask = torch.tensor([True, False, True, False])
    junk = torch.tensor([0.0, math.nan, 0.0, math.inf])
    logp = (torch.tensor([-1.0, -2.0, -3.0, -4.0]) + junk).requires_grad_()
    loss, metrics = grpo_loss(
        logp,
        torch.full((4,), -1.5) - junk,
        torch.ones(4) + junk,
        mask,
        denominator=2,
        sampler_logp=torch.full((4,), -1.5) + junk,
        correction=Correction(high=2.0),
    )
    loss.backward()
    assert loss.isfinite() and all(value.isfinite() for value in metrics.values())
    assert torch.equal(logp.grad != 0, torch.tensor([False, False, True, False]))  # -1 is clipped high: e^0.5 > 1.28


def test_a_learner_log_prob_that_is_not_finite_is_not_hidden() -> None:
    loss, _ = grpo_loss(torch.tensor([math.nan, -1.0]), None, torch.ones(2), torch.ones(2), denominator=2)
    assert loss.isnan()


@pytest.mark.parametrize("aggregation", ["token", "sequence", "sequence_sum"])
def test_an_empty_pack_has_loss_zero_and_a_backward(aggregation: str) -> None:
    parameter = torch.tensor([3.0], requires_grad=True)
    empty = torch.zeros(0)
    loss, metrics = grpo_loss(
        parameter.expand(1)[:0] * 2,
        None,
        empty,
        empty.bool(),
        sequence_ids=empty.long(),
        denominator=7,
        aggregation=aggregation,  # type: ignore[arg-type]
        sampler_logp=empty,
        correction=Correction(high=2.0),
    )
    loss.backward()
    assert loss.item() == 0 and parameter.grad.item() == 0
    assert not any(value.item() for value in metrics.values())
    assert mean_metrics({name: value.item() for name, value in metrics.items()}) == {}


def test_a_batch_whose_every_row_is_masked_has_loss_zero() -> None:
    loss, _ = grpo_loss(torch.ones(2), None, torch.zeros(2), torch.zeros(2), denominator=0)
    assert loss.item() == 0


def test_sequence_ids_may_be_shuffled_and_sparse() -> None:
    """Mean per sequence: (1 + 3) / 2 for id 900, 5 for id -4; -(2 + 5) / 2 sequences = -3.5."""
    loss, _ = grpo_loss(
        torch.zeros(3),
        None,
        torch.tensor([1.0, 5.0, 3.0]),
        torch.ones(3),
        sequence_ids=torch.tensor([900, -4, 900]),
        denominator=2,
        aggregation="sequence",
    )
    assert loss.item() == -3.5


def test_flat_sequence_mean_needs_ids() -> None:
    with pytest.raises(ValueError, match="need sequence_ids"):
        grpo_loss(torch.zeros(3), None, torch.ones(3), torch.ones(3), denominator=1, aggregation="sequence")


def test_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown aggregation 'mean'"):
        grpo_loss(
            torch.zeros(3),
            None,
            torch.ones(3),
            torch.ones(3),
            denominator=1,
            aggregation="mean",  # type: ignore[arg-type]
        )


def test_rows_of_advantage_zero_may_be_left_out() -> None:
    """The denominator counts them, so loss and gradients of the others are the same with and without them."""
    generator = np.random.default_rng(0)
    logp = torch.tensor(-generator.random(6), dtype=torch.float32)
    advantages = torch.tensor([1.0, 1.0, 0.0, 0.0, -2.0, 0.0])
    old = logp - 0.1
    kept = advantages != 0
    whole, _ = grpo_loss(logp, old, advantages, torch.ones(6), denominator=6)
    part, metrics = grpo_loss(logp[kept], old[kept], advantages[kept], torch.ones(3), denominator=6)
    assert whole.item() == pytest.approx(part.item(), abs=1e-7)
    assert metrics["tokens"].item() == 0.5
    assert mean_metrics({k: v.item() for k, v in metrics.items()})["ratio"] == pytest.approx(math.exp(0.1), abs=1e-6)
