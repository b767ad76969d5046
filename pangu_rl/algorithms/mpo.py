"""Mixed preference optimisation: summed log-probs of pairs -> **preference + quality + generation loss** -> learner.

Wang et al. 2024, arXiv 2411.10442, which openPangu-VL 4.2 names. DPO (Rafailov et al. 2023) is the case of weights
(1, 0, 0), BCO (Jung et al. 2024) that of (0, 1, 0).
Letters: B pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid


def mpo_loss(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    chosen_lengths: Tensor,
    *,
    beta: float = 0.1,
    weights: tuple[float, float, float] = (0.8, 0.2, 1.0),
    reward_shift: float = 0.0,
    denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the three losses below, with rewards r = beta (log pi(y|x) - log pi_ref(y|x)).

    The log-probs are float32 [B], summed over the tokens of a response, the reference's without a gradient;
    `chosen_lengths` [B] counts the tokens of the chosen ones; `weights` are of preference, quality and generation.

    `denominator` is the number of pairs of the global batch: the results of its micro-batches and ranks then add up to
    the mean over it. None takes the pairs given here. No pair at all gives 0, with its graph.

    Metrics are 0-dim and add up as the loss does: `loss_preference`, `loss_quality`, `loss_generation` (before their
    weights), `reward_chosen`, `reward_rejected`, `reward_margin`, and `accuracy`, the share of pairs whose chosen
    response has the greater reward (a tie is none).
    """
    chosen = implicit_rewards(chosen_logp, ref_chosen_logp, beta)
    rejected = implicit_rewards(rejected_logp, ref_rejected_logp, beta)
    pairs = max(len(chosen_logp) if denominator is None else denominator, 1)
    parts = {
        "loss_preference": preference_loss(chosen, rejected).sum() / pairs,
        "loss_quality": quality_loss(chosen, rejected, reward_shift).sum() / pairs,
        "loss_generation": generation_loss(chosen_logp, chosen_lengths).sum() / pairs,
    }
    loss = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
    metrics = parts | {
        "reward_chosen": chosen.sum() / pairs,
        "reward_rejected": rejected.sum() / pairs,
        "reward_margin": (chosen - rejected).sum() / pairs,
        "accuracy": (chosen > rejected).float().sum() / pairs,
    }
    return loss, {name: value.detach() for name, value in metrics.items()}


def implicit_rewards(logp: Tensor, ref_logp: Tensor, beta: float) -> Tensor:
    """[B] r = beta (log pi(y|x) - log pi_ref(y|x))."""
    return beta * (logp - ref_logp)


def preference_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """[B] -log sigmoid(r_c - r_r), of rewards [B]: DPO."""
    return -logsigmoid(chosen - rejected)


def quality_loss(chosen: Tensor, rejected: Tensor, shift: float) -> Tensor:
    """[B] -log sigmoid(r_c - shift) - log sigmoid(shift - r_r), of rewards [B]: BCO, each response for itself."""
    return -logsigmoid(chosen - shift) - logsigmoid(shift - rejected)


def generation_loss(chosen_logp: Tensor, lengths: Tensor) -> Tensor:
    """[B] -log pi(y_c|x) / |y_c|, as the paper has it: the mean over each response's own tokens, then over pairs.

    InternVL's code takes the mean over all chosen tokens of the batch, which gives long responses more weight.
    """
    return -chosen_logp / lengths


@dataclass(slots=True)
class RunningShift:
    """The shift of `quality_loss`: the arithmetic mean of the mean rewards of all batches so far, this one included.

    One value per optimiser step, and part of a checkpoint. InternVL's code is the same, per micro-batch.
    """

    mean: float = 0.0
    batches: int = 0

    def update(self, batch_mean: float) -> float:
        """Take in the mean reward over all chosen and rejected responses of a batch; returns the shift to use on it.

        A batch whose mean is not finite leaves no trace: its step is skipped, and those after it are not to be.
        """
        if not math.isfinite(batch_mean):
            return self.mean
        self.batches += 1
        self.mean += (batch_mean - self.mean) / self.batches
        return self.mean

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values, exact."""
        return {"mean": self.mean, "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.batches = state["mean"], state["batches"]
