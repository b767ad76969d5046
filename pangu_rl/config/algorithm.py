"""GRPO's own numbers. Defaults are the openPangu-VL recipe (paper 4.3) with clip-higher (DAPO) and no KL."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pangu_rl.config.base import Strict


class DynamicSamplingConfig(Strict):
    enabled: bool = True
    """Set zero-variance groups aside and draw further prompts in their place."""
    max_rounds: NonNegativeInt = 0
    """Further rounds of prompts per step; 0 leaves the zero-variance groups out without drawing others."""


class GrpoAlgorithmConfig(Strict):
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.28
    advantage_scale: Literal["std", "none"] = "std"
    """`std` divides by the group's unbiased deviation (GRPO); `none` only centres (Dr. GRPO)."""
    advantage_eps: PositiveFloat = 1e-6
    aggregation: Literal["token", "sequence", "sequence_sum"] = "token"
    """`token`: mean over the global batch's tokens (DAPO). `sequence`: mean per completion, then over completions
    (GRPO). `sequence_sum`: sum per completion over a constant length (Dr. GRPO)."""
    mini_batches: PositiveInt = 2
    """Optimiser steps per rollout step; above 1, old log-probs are frozen before the first."""
    dynamic_sampling: DynamicSamplingConfig = DynamicSamplingConfig()
    overlong: Literal["train", "mask"] = "train"
    """What a completion cut at the token limit does: train with the reward it earned, or stay out of the loss and of
    its group's statistics."""
    tis_cap: PositiveFloat | None = None
    """Truncated importance sampling: weight each token by min(learner/sampler, cap). Required with stale rollouts."""
    sampler_kl_limit: PositiveFloat | None = 0.2
    """KL(sampler || learner) in nats a token, `train/sampler_kl`, above which a run ends whose rollouts are of the
    weights that train (`trainer.max_staleness` 0); from a tenth of it on a step says so. Sound pairs of engine and
    learner show 0.001. null only measures."""


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
