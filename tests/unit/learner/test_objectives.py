"""Every setting of a loss reaches it: the objective of a configuration is the loss called with that very number.

The log-probs are far enough from the old, the sampler's and the reference's that every clip and bound takes effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.grpo import grpo_loss
from pangu_rl.algorithms.importance_weights import Correction
from pangu_rl.algorithms.mpo import mpo_loss
from pangu_rl.algorithms.sft import BalanceReading, balanced_loss, square_averaged_loss
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig
from pangu_rl.learner.model import PackTensors
from pangu_rl.learner.objectives import Objective, build_objective
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch
from tests.unit.learner.builders import plain_pack

LENGTHS = (1, 3, 2)
BATCH = MiniBatch(packs=(), loss_tokens=10, loss_sequences=5, loss_roots=7.5)
"""The pack's 6 tokens and 3 sequences are not all of the global batch, so that no denominator is another."""
ADVANTAGES = torch.tensor([1.0, -1.0, -1.0, -1.0, 0.5, 0.5])
OLD = torch.tensor([-1.0, -1.2, -0.7, -2.0, -0.3, -1.5])
SAMPLER = torch.tensor([-1.9, -1.0, -0.9, -1.6, -1.4, -1.1])
REFERENCE = torch.tensor([-1.1, -2.0, -0.6, -1.0, -0.9, -1.2])
RATIOS = torch.tensor([1.4, 0.7, 1.5, 0.9, 0.6, 2.0])
"""exp(logp - OLD): below 0.8 with a negative advantage, above 1.28 with a positive one."""
ENTROPY = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
Result = tuple[Tensor, Mapping[str, Tensor]]


def pack(columns: Mapping[str, Tensor], lengths: tuple[int, ...] = LENGTHS) -> PackTensors:
    laid_out = plain_pack([range(3, 4 + length) for length in lengths], [1] * len(lengths))
    return replace(PackTensors.of(laid_out, "cpu"), columns=dict(columns))


def objective(kind: str, algorithm: Any, **spec: int) -> Objective:
    return build_objective(
        LearnerSpec(
            model=ModelConfig(path=""),
            learner=LearnerConfig(),
            objective=kind,
            algorithm=algorithm,
            total_steps=1,
            **spec,
        )
    )


def log_probs() -> Tensor:
    return (OLD + RATIOS.log()).requires_grad_()


def same(found: Result, logp: Tensor, expected: Result, other: Tensor) -> None:
    """Loss, gradient and totals; `logp` and `other` are the leaves of the two."""
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    [gradient], [reference] = torch.autograd.grad(found[0], logp), torch.autograd.grad(expected[0], other)
    torch.testing.assert_close(gradient, reference)


GRPO = {"loss": "grpo", "clip_low": 0.2, "clip_high": 0.28, "denominator": 10, "aggregation": "token"}
CORRECTION = {"high": 1.2, "low": None, "level": "token", "outside": "truncate"}


def corrected(**changed: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"correction": CORRECTION | changed}, {"correction": Correction(**(CORRECTION | changed))}


OF_GRPO = {
    "the defaults": ({}, {}),
    "clip_low": ({"clip_low": 0.35}, {"clip_low": 0.35}),
    "clip_high": ({"clip_high": 0.45}, {"clip_high": 0.45}),
    "aggregation sequence": ({"aggregation": "sequence"}, {"aggregation": "sequence", "denominator": 5}),
    "aggregation sequence_sum": ({"aggregation": "sequence_sum"}, {"aggregation": "sequence_sum", "denominator": 55}),
    "loss gspo": (
        {"loss": "gspo"},
        {"loss": "gspo", "clip_low": 3e-4, "clip_high": 4e-4, "aggregation": "sequence", "denominator": 5},
    ),
    "loss cispo": ({"loss": "cispo", "clip_high": 0.6}, {"loss": "cispo", "clip_low": None, "clip_high": 0.6}),
    "correction": corrected(),
    "correction.high": corrected(high=1.1),
    "correction.low": corrected(low=0.9),
    "correction.level": corrected(level="sequence"),
    "correction.outside": corrected(outside="mask"),
    "kl_weight": ({"kl_weight": 0.3}, {"kl_weight": 0.3}),
}


def of_grpo(settings: dict[str, Any], logp: Tensor) -> Result:
    columns = {
        "old_logprobs": OLD,
        "advantages": ADVANTAGES,
        "sampler_logprobs": SAMPLER,
        "reference_logprobs": REFERENCE,
    }
    built = objective("grpo", GrpoAlgorithmConfig(**settings), constant_length=11)
    return built.loss(logp, ENTROPY, pack(columns), BATCH)


@pytest.mark.parametrize("name", OF_GRPO)
def test_settings_of_grpo_reach_its_loss(name: str) -> None:
    """`sequence_sum` divides by 5 sequences of the constant length 11."""
    settings, arguments = OF_GRPO[name]
    logp, other = log_probs(), log_probs()
    found = of_grpo(settings, logp)
    arguments = GRPO | arguments
    loss, totals = grpo_loss(
        other,
        OLD,
        ADVANTAGES,
        torch.ones(6, dtype=torch.bool),
        sequence_ids=torch.tensor([0, 1, 1, 1, 2, 2]),
        sampler_logp=SAMPLER,
        reference_logp=REFERENCE,
        **arguments,
    )
    same(found, logp, (loss, totals | {"entropy": torch.tensor(2.1) / arguments["denominator"]}), other)


def test_every_setting_of_grpo_makes_another_loss() -> None:
    """Else the numbers above could not tell whether one arrived."""
    losses = [of_grpo(settings, log_probs())[0].item() for settings, _ in OF_GRPO.values()]
    assert len({round(loss, 5) for loss in losses}) == len(losses)


BALANCE = {"lambda_token": 0.5, "lambda_sample": 0.5, "tau_order": 0.1, "tau_magnitude": 2.0}
OF_SFT: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "the defaults": ({}, {}, {}),
    **{name: ({name: 0.3}, {name: 0.3}, {}) for name in BALANCE},
    "magnitude": ({"magnitude": "centred"}, {}, {"magnitude": "centred"}),
    "detach_weights": ({"detach_weights": False}, {}, {"detach_weights": False}),
    "average token": (
        {"average": "token"},
        {"lambda_token": 1.0, "lambda_sample": 0.0, "tau_order": 0.0, "tau_magnitude": 0.0},
        {},
    ),
    "average sample": (
        {"average": "sample"},
        {"lambda_token": 0.0, "lambda_sample": 1.0, "tau_order": 0.0, "tau_magnitude": 0.0},
        {},
    ),
}


def of_sft(settings: dict[str, Any], logp: Tensor) -> Result:
    return objective("sft", SupervisedConfig(**settings)).loss(logp, ENTROPY, pack({}), BATCH)


@pytest.mark.parametrize("name", OF_SFT)
def test_settings_of_sft_reach_its_loss(name: str) -> None:
    settings, arguments, reading = OF_SFT[name]
    logp, other = log_probs(), log_probs()
    loss, totals = balanced_loss(
        -other,
        torch.tensor([0, 1, 1, 1, 2, 2]),
        torch.ones(6, dtype=torch.bool),
        denominators=(10, 5),
        reading=BalanceReading(**({"magnitude": "literal", "detach_weights": True} | reading)),
        **(BALANCE | arguments),
    )
    same(of_sft(settings, logp), logp, (loss, totals | {"entropy": torch.tensor(0.21)}), other)


def test_the_square_average_reaches_its_loss() -> None:
    logp, other = log_probs(), log_probs()
    loss, totals = of_sft({"average": "square"}, logp)
    samples, trained = torch.tensor([0, 1, 1, 1, 2, 2]), torch.ones(6, dtype=torch.bool)
    expected, _ = square_averaged_loss(-other, samples, trained, denominator=7.5)
    same((loss, totals), logp, (expected, totals), other)


def test_every_setting_of_sft_makes_another_gradient() -> None:
    """Of `detach_weights` the value is the same."""
    gradients = []
    for settings, _, _ in OF_SFT.values():
        logp = log_probs()
        [gradient] = torch.autograd.grad(of_sft(settings, logp)[0], logp)
        gradients.append(tuple(round(value, 5) for value in gradient.tolist()))
    assert len(set(gradients)) == len(gradients)


@pytest.mark.parametrize(
    "settings", [{}, {"beta": 0.3}, {"weights": (0.5, 0.4, 0.3)}], ids=["the defaults", "beta", "weights"]
)
def test_settings_of_mpo_reach_its_loss_and_its_shift(settings: dict[str, Any]) -> None:
    """One pair of the global batch's 2: tokens 0 and 1 are chosen, 2 to 5 rejected. Of 4 responses' mean reward its
    share is beta times the sum of logp - REFERENCE over its two, divided by 4."""
    arguments = {"beta": 0.1, "weights": (0.8, 0.2, 1.0)} | settings
    logp, other = log_probs(), log_probs()
    batch = MiniBatch(packs=(), loss_tokens=10, loss_sequences=4, loss_pairs=2)
    tensors = pack({"reference": REFERENCE}, (2, 4))
    built = objective("mpo", MpoAlgorithmConfig(**settings))
    share = built.statistic.share(logp, tensors, batch)
    assert share.item() == pytest.approx(arguments["beta"] * (logp - REFERENCE).sum().item() / 4, rel=1e-5)
    built.statistic.take(0.25)
    sums = [part.sum().reshape(1) for part in (other[:2], other[2:], REFERENCE[:2], REFERENCE[2:])]
    loss, totals = mpo_loss(*sums, torch.tensor([2.0]), reward_shift=0.25, denominator=2, **arguments)
    same(built.loss(logp, ENTROPY, tensors, batch), logp, (loss, totals | {"entropy": torch.tensor(0.21)}), other)
