"""From log-probs to a loss: (log-probs, entropy, pack columns, global denominators) -> **loss, totals** -> engine.

Adapters from the learner's tensors to the pure losses of `pangu_rl.algorithms`. Totals are additive: the engine adds
them over packs and ranks (names that end in `_max` combine by max), then `means` turns them into what is logged.
Letters: M targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.algorithms.grpo import grpo_loss, mean_metrics
from pangu_rl.algorithms.sft import balanced_loss
from pangu_rl.config.algorithm import GrpoAlgorithmConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.model import PackTensors
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch

Loss = Callable[[Tensor, Tensor, PackTensors, MiniBatch], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Objective:
    """What the learner minimises."""

    loss: Loss
    """(log-probs float32 [M], entropy float32 [M], pack, its mini-batch) -> (loss, totals), all 0-dim; the loss is the
    pack's share of the global mean."""
    means: Callable[[Mapping[str, float]], dict[str, float]]
    """Totals of the global mini-batch -> metrics."""


def build_objective(spec: LearnerSpec) -> Objective:
    if spec.objective == "sft":
        return Objective(loss=_sft, means=dict)
    if spec.algorithm is None:
        raise ConfigError("the objective grpo needs the section algorithm")
    return Objective(loss=_grpo(spec.algorithm, spec.constant_length), means=mean_metrics)


def _grpo(config: GrpoAlgorithmConfig, constant_length: int) -> Loss:
    def loss(
        logp: Tensor, entropy: Tensor, batch: PackTensors, mini_batch: MiniBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        denominator = {
            "token": mini_batch.loss_tokens,
            "sequence": mini_batch.loss_sequences,
            "sequence_sum": mini_batch.loss_sequences * constant_length,
        }[config.aggregation]
        value, totals = grpo_loss(
            logp,
            batch.columns.get("old_logprobs"),
            batch.columns["advantages"],
            torch.ones_like(logp, dtype=torch.bool),
            sequence_ids=batch.sequence_ids,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            denominator=denominator,
            aggregation=config.aggregation,
            sampler_logp=batch.columns.get("sampler_logprobs"),
            tis_cap=config.tis_cap,
        )
        return value, totals | {"entropy": entropy.sum() / max(denominator, 1)}

    return loss


def _sft(logp: Tensor, entropy: Tensor, batch: PackTensors, mini_batch: MiniBatch) -> tuple[Tensor, dict[str, Tensor]]:
    value, totals = balanced_loss(
        -logp,
        batch.sequence_ids,
        torch.ones_like(logp, dtype=torch.bool),
        denominators=(mini_batch.loss_tokens, mini_batch.loss_sequences),
    )
    return value, totals | {"entropy": entropy.sum() / max(mini_batch.loss_tokens, 1)}


def add_totals(totals: dict[str, Tensor], terms: Mapping[str, Tensor]) -> None:
    """Add a pack's terms to `totals`; names that end in `_max` combine by max."""
    for name, term in terms.items():
        if name not in totals:
            totals[name] = term
        else:
            totals[name] = torch.maximum(totals[name], term) if name.endswith("_max") else totals[name] + term


def reduce_totals(totals: Mapping[str, Tensor], ranks: int) -> dict[str, float]:
    """Totals over all ranks of the default group, in two collectives."""
    values = torch.stack(list(totals.values())).float()
    if ranks > 1:
        largest = values.clone()
        dist.all_reduce(values)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        is_max = torch.tensor([name.endswith("_max") for name in totals], device=values.device)
        values = torch.where(is_max, largest, values)
    return dict(zip(totals, values.tolist()))
