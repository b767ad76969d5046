"""Eq. (1) of openPangu-VL against a loop over its sums in float64, against torch's cross entropy, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.sft import BalanceReading, balanced_loss

PLAIN = {"lambda_token": 1.0, "lambda_sample": 0.0, "tau_order": 0.0, "tau_magnitude": 0.0}


def eq1_by_loops(
    losses: list[float], samples: list[int], mask: list[bool], lambdas: tuple[float, float], reading: BalanceReading
) -> float:
    """One pack, as the paper prints it, in Python floats."""
    weighted: dict[int, list[tuple[float, float]]] = {}
    seen: dict[int, int] = {}
    for loss, sample, supervised in zip(losses, samples, mask, strict=True):
        i = seen.get(sample, 0)
        if supervised or reading.order == "all":
            seen[sample] = i + 1
        if supervised:
            order = 1 / math.log(math.e + 0.1 * i)
            if reading.magnitude == "literal":
                magnitude = 2 / (1 + math.exp(-(2.0 * loss - 0.5)))
            else:
                magnitude = 2 * (1 / (1 + math.exp(-2.0 * loss)) - 0.5)
            weighted.setdefault(sample, []).append((order + magnitude, loss))
    pairs = [pair for sample in weighted.values() for pair in sample]
    token = sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)
    means = [sum(w * x for w, x in sample) / sum(w for w, _ in sample) for sample in weighted.values()]
    return lambdas[0] * token + lambdas[1] * sum(means) / len(means)


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three packs, 40 tokens each, samples interleaved and numbered anew in each pack; one sample has no target."""
    generator = torch.Generator().manual_seed(seed)
    losses = 3 * torch.rand(120, generator=generator, dtype=torch.float64)
    samples = torch.randint(0, 5, (120,), generator=generator)
    mask = (torch.rand(120, generator=generator) < 0.6) & (samples != 3)
    return losses, samples, mask, torch.arange(3).repeat_interleave(40)


def test_value_worked_by_hand() -> None:
    """Sample 0: losses 1, 0; sample 1: loss 3. lambda 0.5, 0.5; weights 1 / ln(e + 0.1 i) + 2 sigmoid(2 l - 0.5):
    i 0, l 1: 1 + 1.635149 = 2.635149;  i 1, l 0: 0.965132 + 0.755081 = 1.720213;  i 0, l 3: 1 + 1.991860 = 2.991860
    L_t = (2.635149 + 0 + 8.975580) / 7.347222 = 1.580288
    L_s = (2.635149 / 4.355362 + 3) / 2 = (0.605036 + 3) / 2 = 1.802518
    L   = (1.580288 + 1.802518) / 2 = 1.691403
    """
    loss, metrics = balanced_loss(torch.tensor([1.0, 0.0, 3.0]), torch.tensor([0, 0, 1]), torch.tensor([True] * 3))
    assert loss.item() == pytest.approx(1.691403, abs=2e-6)
    assert metrics["loss_token"].item() == pytest.approx(1.580288, abs=2e-6)
    assert metrics["loss_sample"].item() == pytest.approx(1.802518, abs=2e-6)
    assert metrics["nll"].item() == pytest.approx(4 / 3, abs=1e-6)


@pytest.mark.parametrize("order", ["supervised", "all"])
@pytest.mark.parametrize("magnitude", ["literal", "centred"])
@pytest.mark.parametrize("lambdas", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.3, 0.9)])
def test_mean_over_packs_equals_loops(order: str, magnitude: str, lambdas: tuple[float, float]) -> None:
    """float64 on both sides: 1e-12 leaves room for the order of 120 terms alone."""
    losses, samples, mask, packs = batch()
    reading = BalanceReading(order=order, magnitude=magnitude)  # type: ignore[arg-type]
    loss, _ = balanced_loss(
        losses, samples, mask, pack_ids=packs, lambda_token=lambdas[0], lambda_sample=lambdas[1], reading=reading
    )
    expected = [
        eq1_by_loops(losses[rows].tolist(), samples[rows].tolist(), mask[rows].tolist(), lambdas, reading)
        for rows in (packs == 0, packs == 1, packs == 2)
    ]
    assert loss.item() == pytest.approx(sum(expected) / 3, abs=1e-12)


def test_plain_settings_equal_torch_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(30, 7, generator=generator), torch.randint(0, 7, (30,), generator=generator)
    mask = torch.rand(30, generator=generator) < 0.5
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = torch.nn.functional.cross_entropy(logits[mask], targets[mask])
    loss, _ = balanced_loss(losses, torch.arange(30) // 6, mask, **PLAIN)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)


def test_sample_part_with_constant_weights_is_the_mean_of_sample_means() -> None:
    """Means 2 of (1, 3) and 7: (2 + 7) / 2; the third sample has no supervised token and is not counted."""
    settings = PLAIN | {"lambda_token": 0.0, "lambda_sample": 1.0}
    loss, _ = balanced_loss(
        torch.tensor([1.0, 3.0, 7.0, 9.0]),
        torch.tensor([0, 0, 1, 2]),
        torch.tensor([True, True, True, False]),
        **settings,
    )
    assert loss.item() == pytest.approx(4.5, abs=1e-6)


@pytest.mark.parametrize("lambdas", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("taus", [(0.0, 0.0), (0.1, 2.0)])
def test_with_denominators_packs_add_up(lambdas: tuple[float, float], taus: tuple[float, float]) -> None:
    """Three calls of one pack each equal one call of three; gradients too; and with constant weights the whole is the
    token mean and the mean of sample means of the batch."""
    losses, samples, mask, packs = batch()
    unique = packs * 5 + samples
    counts = (int(mask.sum()), len(unique[mask].unique()))
    settings = {
        "lambda_token": lambdas[0],
        "lambda_sample": lambdas[1],
        "tau_order": taus[0],
        "tau_magnitude": taus[1],
        "denominators": counts,
    }
    whole = losses.clone().requires_grad_()
    together, metrics = balanced_loss(whole, samples, mask, pack_ids=packs, **settings)
    together.backward()
    apart = losses.clone().requires_grad_()
    shares = [balanced_loss(apart[packs == p], samples[packs == p], mask[packs == p], **settings) for p in range(3)]
    total = sum(loss for loss, _ in shares)
    total.backward()
    torch.testing.assert_close(total, together, rtol=0, atol=1e-12)
    torch.testing.assert_close(apart.grad, whole.grad, rtol=0, atol=1e-12)
    for name, value in metrics.items():
        torch.testing.assert_close(sum(share[name] for _, share in shares), value, rtol=0, atol=1e-12)
    if taus == (0.0, 0.0):
        sample_means = torch.stack([losses[mask & (unique == u)].mean() for u in unique[mask].unique()])
        expected = lambdas[0] * losses[mask].mean() + lambdas[1] * sample_means.mean()
        torch.testing.assert_close(together.detach(), expected, rtol=0, atol=1e-12)


def test_weights_carry_no_gradient_unless_asked() -> None:
    """Detached: one token of one sample has L_t = l, dL/dl = 1; two tokens: dL_t/dl_i = w_i / sum w."""
    losses = torch.tensor([1.0, 0.0], requires_grad=True)
    settings = {"lambda_token": 1.0, "lambda_sample": 0.0}
    ids, mask = torch.tensor([0, 0]), torch.tensor([True, True])
    balanced_loss(losses, ids, mask, **settings)[0].backward()
    torch.testing.assert_close(losses.grad, torch.tensor([2.635149, 1.720213]) / 4.355362, rtol=0, atol=2e-6)
    attached = torch.tensor([1.0, 0.0], requires_grad=True)
    balanced_loss(attached, ids, mask, reading=BalanceReading(detach_weights=False), **settings)[0].backward()
    assert not torch.allclose(attached.grad, losses.grad, atol=1e-3)


def test_an_empty_pack_has_loss_zero_and_a_backward() -> None:
    losses = torch.zeros(0, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    for denominators in (None, (5, 2)):
        loss, metrics = balanced_loss(losses * 1, none, none, denominators=denominators)
        loss.backward()
        assert loss.item() == 0 and not any(value.item() for value in metrics.values())


def test_masked_positions_may_hold_anything() -> None:
    losses = torch.tensor([1.0, math.nan, math.inf, 2.0], requires_grad=True)
    mask = torch.tensor([True, False, False, True])
    loss, _ = balanced_loss(losses, torch.tensor([0, 0, 1, 1]), mask)
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(losses.grad != 0, mask)


def test_pack_without_supervised_tokens_is_not_counted_in_the_mean() -> None:
    losses, ids = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 0, 0])
    alone, _ = balanced_loss(losses[:2], ids[:2], torch.tensor([True, True]))
    both, _ = balanced_loss(losses, ids, torch.tensor([True, True, False]), pack_ids=torch.tensor([0, 0, 1]))
    assert torch.equal(alone, both)
