"""GRPO's own numbers. Defaults are the openPangu-VL recipe (paper 4.2): clip-higher with DAPO's numbers, no KL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict

OF_THE_LOSS: dict[str, dict[str, Any]] = {
    "grpo": {"clip_low": 0.2, "clip_high": 0.28, "aggregation": "token"},
    "gspo": {"clip_low": 3e-4, "clip_high": 4e-4, "aggregation": "sequence"},
    "cispo": {"clip_low": None, "clip_high": 4.0, "aggregation": "token"},
}
"""Defaults that depend on `loss`: DAPO's, GSPO's (5.1), and for CISPO, whose paper names no number, ScaleRL's greatest
weight of 5 (arXiv 2510.13786)."""
LARGEST_SEQUENCE_CLIP = 0.1
"""GSPO's ratio is e to a mean drift per token: 0.1 would be a tenth of a nat in every token of an answer."""


class DynamicSamplingConfig(Strict):
    enabled: bool = True
    """Set groups aside that have nothing to compare; `max_rounds` says whether further prompts are drawn in their
    place."""
    judge: Literal["reward", "accuracy"] = "reward"
    """`reward`: a group of equal rewards is set aside. `accuracy`: so is one whose rows are all correct or all not, by
    the first reward function, whatever format and length add (DAPO's rule)."""
    max_rounds: NonNegativeInt = 0
    """Further rounds of prompts per step; 0 leaves those groups out without drawing others."""

    @model_validator(mode="after")
    def a_judge_has_something_to_judge(self) -> DynamicSamplingConfig:
        if not self.enabled and self.judge == "accuracy":
            raise ValueError(
                "enabled is false and judge is accuracy, which would judge nothing: set enabled to true, or judge to "
                "reward"
            )
        return self


class CorrectionConfig(Strict):
    """Importance weights w = learner before the step / sampler, where the two differ by arithmetic or by staleness."""

    level: Literal["token", "sequence", "geometric"] = "token"
    """`token`: of each token. `sequence`: of an answer, the product over its tokens. `geometric`: of an answer, the
    geometric mean over its tokens."""
    outside: Literal["truncate", "mask"] = "truncate"
    """A weight out of bounds is cut to the bound, or its tokens stay out of the loss; the denominator counts them."""
    low: PositiveFloat | None = None
    """The least weight; null bounds nothing below."""
    high: Annotated[float, Field(ge=1.0)]
    """The greatest weight. 2 is usual for tokens, 2 to 10 for sequences, 1.01 for geometric means."""

    @model_validator(mode="after")
    def bounds_hold_one(self) -> CorrectionConfig:
        if self.low is not None and self.low > 1:
            raise ValueError(
                f"low is {self.low:g} and high is {self.high:g}: a sampler that is the learner has weight 1, which "
                "must lie between them; set low to 1 or less"
            )
        return self


class GrpoAlgorithmConfig(Strict):
    loss: Literal["grpo", "gspo", "cispo"] = "grpo"
    """`grpo`: the clipped surrogate of each token. `gspo`: of each answer, with one ratio, the geometric mean over its
    tokens (arXiv 2507.18071). `cispo`: the policy gradient of every token with a bounded weight (arXiv 2506.13585)."""
    clip_low: PositiveFloat | None = 0.2
    """The ratio is clipped at 1 - clip_low. Default 0.2 (grpo), 3e-4 (gspo); cispo has none."""
    clip_high: PositiveFloat = 0.28
    """The ratio is clipped at 1 + clip_high. Default 0.28 (grpo), 4e-4 (gspo), 4 (cispo)."""
    advantage_scale: Literal["std", "none"] = "std"
    """`std` divides by the group's unbiased deviation (GRPO); `none` only centres (Dr. GRPO)."""
    advantage_eps: PositiveFloat = 1e-6
    aggregation: Literal["token", "sequence", "sequence_sum"] = "token"
    """`token`: mean over the global batch's tokens (DAPO). `sequence`: mean per completion, then over completions
    (GRPO; the default and the only one of gspo). `sequence_sum`: sum per completion over a constant length (Dr. GRPO).
    """
    mini_batches: PositiveInt = 2
    """Optimiser steps per rollout step; above 1, old log-probs are frozen before the first."""
    dynamic_sampling: DynamicSamplingConfig = DynamicSamplingConfig()
    overlong: Literal["train", "mask"] = "train"
    """What a completion cut at the token limit does: train with the reward it earned, or stay out of the loss and of
    its group's statistics. The reward function `soft_overlong` lets length cost before that (DAPO)."""
    correction: CorrectionConfig | None = None
    """Weights for what the sampler draws otherwise than the learner would. Required with stale rollouts; null only
    measures the mismatch."""
    kl_weight: NonNegativeFloat = 0.0
    """Weight of the KL to the model that the run started from, a second model in the memory of every learner rank. 0,
    the papers', keeps none."""
    sampler_kl_limit: PositiveFloat | None = 0.2
    """KL(sampler || learner) in nats a token, `train/sampler_kl`, above which a run ends whose rollouts are of the
    weights that train (`trainer.max_staleness` 0); from a tenth of it on a step says so. Sound pairs of engine and
    learner show 0.001. null only measures."""

    @model_validator(mode="before")
    @classmethod
    def defaults_are_those_of_the_loss(cls, values: Any) -> Any:
        loss = values.get("loss") if isinstance(values, dict) else None
        return OF_THE_LOSS.get(loss, {}) | values if isinstance(loss, str) else values

    @model_validator(mode="after")
    def clip_is_that_of_the_loss(self) -> GrpoAlgorithmConfig:
        if (self.clip_low is None) != (self.loss == "cispo"):
            shown = "null" if self.clip_low is None else f"{self.clip_low:g}"
            other = "null: its weights have no lower bound" if self.loss == "cispo" else "a number, or remove it"
            raise ValueError(f"clip_low is {shown} and loss is {self.loss}: set clip_low to {other}")
        if self.loss == "gspo":
            for name in ("clip_low", "clip_high"):
                if getattr(self, name) > LARGEST_SEQUENCE_CLIP:
                    raise ValueError(
                        f"{name} is {getattr(self, name):g} and loss is gspo, whose ratio of a whole answer would "
                        f"never reach it: remove {name} ({OF_THE_LOSS['gspo'][name]:g} is GSPO's), or set loss to grpo"
                    )
        return self

    @model_validator(mode="after")
    def answers_are_whole_in_gspo(self) -> GrpoAlgorithmConfig:
        if self.loss != "gspo":
            return self
        if self.aggregation != "sequence":
            raise ValueError(
                f"aggregation is {self.aggregation} and loss is gspo, which has one term per answer: set aggregation "
                "to sequence, or loss to grpo"
            )
        if self.correction is not None and self.correction.level == "token":
            raise ValueError(
                "correction.level is token and loss is gspo, which has one term per answer: set correction.level to "
                "sequence or geometric, or loss to grpo"
            )
        return self


class SupervisedConfig(Strict):
    """The loss of SFT and of the stages of pre-training. The paper's defaults; it leaves both lambdas open."""

    average: Literal["balanced", "token", "sample", "square"] = "balanced"
    """`balanced`: eq. (1) of openPangu-VL (annealing, SFT). `token`: the mean over all trained tokens (pre-training).
    `sample`: the mean over samples of each one's mean (MindVL). `square`: a token counts 1 / sqrt(trained tokens of its
    sample) (InternVL). The last three do not read what follows."""
    lambda_token: NonNegativeFloat = 0.5
    lambda_sample: NonNegativeFloat = 0.5
    tau_order: NonNegativeFloat = 0.1
    tau_magnitude: NonNegativeFloat = 2.0
    magnitude: Literal["literal", "centred"] = "literal"
    """The magnitude weight as printed, or in the range of the order weight."""
    detach_weights: bool = True
    """False lets the gradient through the magnitude weight."""

    @property
    def knows_packs(self) -> bool:
        """Whether the loss of the same rows is another one in other packs: eq. (1) has a weighted mean of each."""
        weighted = self.tau_order > 0 or self.tau_magnitude > 0
        return self.average == "balanced" and self.lambda_token > 0 and weighted
