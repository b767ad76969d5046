"""From log-probs to a loss: (log-probs, entropy, pack columns, global denominators) -> **loss, totals** -> engine.

Adapters from the learner's tensors to the pure losses of `pangu_rl.algorithms`. Totals are additive: the engine adds
them over packs and ranks (names that end in `_max` combine by max), then `means` turns them into what is logged.
Letters: M targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.algorithms.grpo import grpo_loss
from pangu_rl.algorithms.importance_weights import Correction
from pangu_rl.algorithms.mpo import RunningShift, implicit_rewards, mpo_loss
from pangu_rl.algorithms.policy_metrics import mean_metrics
from pangu_rl.algorithms.sft import BalanceReading, balanced_loss, square_averaged_loss
from pangu_rl.algorithms.token_ops import dense_index, segment_sum
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.model import PackTensors
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch

Loss = Callable[[Tensor, Tensor, PackTensors, MiniBatch], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number that the loss of a step needs of all its packs, over all ranks, before the first backward pass."""

    share: Callable[[Tensor, PackTensors, MiniBatch], Tensor]
    """(log-probs float32 [M], pack, its mini-batch) -> a pack's share of it, 0-dim; the shares add up."""
    take: Callable[[float], Any]
    """Called once a step with the whole of it, the same number on every rank."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What the learner minimises."""

    loss: Loss
    """(log-probs float32 [M], entropy float32 [M], pack, its mini-batch) -> (loss, totals), all 0-dim; the loss is the
    pack's share of the global mean."""
    means: Callable[[Mapping[str, float]], dict[str, float]]
    """Totals of the global mini-batch -> metrics."""
    statistic: Statistic | None = None
    """What `loss` reads of all packs; None when it reads its own pack alone."""
    state_dict: Callable[[], dict[str, Any]] = dict
    """What a checkpoint keeps of the objective; plain JSON values."""
    load_state_dict: Callable[[dict[str, Any]], None] = lambda state: None


def build_objective(spec: LearnerSpec) -> Objective:
    if spec.objective == "sft":
        return Objective(loss=_sft(spec.algorithm or SupervisedConfig()), means=dict)
    if spec.algorithm is None:
        raise ConfigError(f"the objective {spec.objective} needs the section algorithm")
    if spec.objective == "mpo":
        return _mpo(spec.algorithm)
    return Objective(loss=_grpo(spec.algorithm, spec.constant_length), means=mean_metrics)


def _grpo(config: GrpoAlgorithmConfig, constant_length: int) -> Loss:
    correction = None if config.correction is None else Correction(**config.correction.model_dump())

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
            loss=config.loss,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            denominator=denominator,
            aggregation=config.aggregation,
            sampler_logp=batch.columns.get("sampler_logprobs"),
            correction=correction,
            reference_logp=batch.columns.get("reference_logprobs"),
            kl_weight=config.kl_weight,
        )
        return value, totals | {"entropy": entropy.sum() / max(denominator, 1)}

    return loss


def _mpo(config: MpoAlgorithmConfig) -> Objective:
    """Each of the step's samples has one vote: P pairs with L and R SFT rows with their token mean N give the loss
    (P L + R N) / (P + R).

    The running shift, which the quality loss alone reads, moves before it is used, once a step, by the mean reward of
    the global batch; without a quality loss there is none.
    """
    shift = RunningShift()
    has_quality = config.weights[1] > 0

    def loss(
        logp: Tensor, entropy: Tensor, batch: PackTensors, mini_batch: MiniBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value, totals = mpo_loss(
            *_pair_sums(logp, batch, mini_batch),
            beta=config.beta,
            weights=config.weights,
            reward_shift=shift.mean,
            denominator=mini_batch.loss_pairs,
        )
        rows = mini_batch.loss_sequences - 2 * mini_batch.loss_pairs
        if rows:
            is_row = batch.sequence_ids >= 2 * mini_batch.loss_pairs
            totals["loss_sft"] = -torch.where(is_row, logp, 0.0).sum() / mini_batch.row_tokens
            value = (mini_batch.loss_pairs * value + rows * totals["loss_sft"]) / (mini_batch.loss_pairs + rows)
            totals["loss_sft"] = totals["loss_sft"].detach()
        return value, totals | {"entropy": entropy.sum() / max(mini_batch.loss_tokens, 1)}

    def share(logp: Tensor, batch: PackTensors, mini_batch: MiniBatch) -> Tensor:
        chosen, rejected, ref_chosen, ref_rejected, _ = _pair_sums(logp.detach(), batch, mini_batch)
        rewards = [
            implicit_rewards(chosen, ref_chosen, config.beta),
            implicit_rewards(rejected, ref_rejected, config.beta),
        ]
        return torch.cat(rewards).sum() / (2 * mini_batch.loss_pairs)

    def means(totals: Mapping[str, float]) -> dict[str, float]:
        return dict(totals) | ({"reward_shift": shift.mean} if has_quality else {})

    return Objective(
        loss=loss,
        means=means,
        statistic=Statistic(share=share, take=shift.update) if has_quality else None,
        state_dict=shift.state_dict,
        load_state_dict=shift.load_state_dict,
    )


def _pair_sums(
    logp: Tensor, batch: PackTensors, mini_batch: MiniBatch
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `mpo_loss` takes of the pack's pairs, float32 [B] each: log-prob of the chosen and of the rejected response,
    then both under the start model, then the chosen responses' lengths."""
    of_pairs = batch.sequence_ids < 2 * mini_batch.loss_pairs
    index, count = dense_index(batch.sequence_ids[of_pairs])
    reference = batch.columns["reference"][of_pairs]
    lengths = segment_sum(torch.ones_like(reference), index, count)
    ref = segment_sum(reference, index, count)
    # The difference is summed, which stays small: of a sum of thousands of nats float32 knows no thousandth.
    policy = ref + segment_sum(logp[of_pairs] - reference, index, count)
    return policy[0::2], policy[1::2], ref[0::2], ref[1::2], lengths[0::2]


def _sft(config: SupervisedConfig) -> Loss:
    def loss(
        logp: Tensor, entropy: Tensor, batch: PackTensors, mini_batch: MiniBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        trained = torch.ones_like(logp, dtype=torch.bool)
        value, totals = balanced_loss(
            -logp,
            batch.sequence_ids,
            trained,
            pack_ids=batch.columns.get("pack_ids"),
            denominators=(mini_batch.loss_tokens, mini_batch.loss_sequences),
            reading=BalanceReading(magnitude=config.magnitude, detach_weights=config.detach_weights),
            **_balance(config),
        )
        if config.average == "square":
            value, _ = square_averaged_loss(-logp, batch.sequence_ids, trained, denominator=mini_batch.loss_roots)
        return value, totals | {"entropy": entropy.sum() / max(mini_batch.loss_tokens, 1)}

    return loss


def _balance(config: SupervisedConfig) -> dict[str, float]:
    """What eq. (1) is told; with constant weights it is the plain mean over tokens or samples."""
    names = ("lambda_token", "lambda_sample", "tau_order", "tau_magnitude")
    plain = {"token": (1.0, 0.0, 0.0, 0.0), "sample": (0.0, 1.0, 0.0, 0.0), "square": (1.0, 0.0, 0.0, 0.0)}
    values = plain.get(config.average) or (getattr(config, name) for name in names)
    return dict(zip(names, values, strict=True))


def add_totals(totals: dict[str, Tensor], terms: Mapping[str, Tensor]) -> None:
    """Add a pack's terms to `totals`; names that end in `_max` combine by max."""
    for name, term in terms.items():
        if name not in totals:
            totals[name] = term
        else:
            totals[name] = torch.maximum(totals[name], term) if name.endswith("_max") else totals[name] + term


def reduce_totals(totals: Mapping[str, Tensor], ranks: int, copies: int = 1) -> dict[str, float]:
    """Totals over all ranks of the default group, in two collectives; `copies` ranks each have the same ones."""
    values = torch.stack(list(totals.values())).float()
    if ranks > 1:
        largest = values.clone()
        dist.all_reduce(values)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        is_max = torch.tensor([name.endswith("_max") for name in totals], device=values.device)
        values = torch.where(is_max, largest, values / copies)
    return dict(zip(totals, values.tolist()))
