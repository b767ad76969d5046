"""What some heads do to logits after their matrix: a model's configuration -> **scale and cap** -> log-probs.

The names mean what transformers' models make of them; `packing_check` compares with the model's own forward, so that a
family that means something else by a name, or has a name of its own, is refused at start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers import PreTrainedConfig

MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
"""Cohere, Falcon-H1, Muse."""
DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
"""Granite and MiniCPM 3 (whose hidden states are divided), Inkling."""
CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Gemma and NanoChat, RecurrentGemma."""


@dataclass(frozen=True, slots=True)
class LogitScaling:
    """z = cap * tanh(scale * h / cap) for a product h of hidden state and head; z = scale * h without a cap."""

    scale: float = 1.0
    cap: float | None = None

    def folded(self, temperature: float) -> dict[str, float | None]:
        """Temperature and cap of `target_logprobs`, which has no scale, for the same distribution.

        z / temperature = c * tanh(h / c) / t with c = cap / scale and t = temperature / scale.
        """
        return {
            "temperature": temperature / self.scale,
            "cap": None if self.cap is None else self.cap / self.scale,
        }


def logit_scaling(config: PreTrainedConfig) -> LogitScaling:
    """Of a language model with this configuration."""
    multipliers, divisors = MULTIPLIERS, DIVISORS
    if config.model_type == "hyperclovax":
        # Of the same names as Granite's, but a factor.
        multipliers, divisors = DIVISORS, MULTIPLIERS
    scale = math.prod(_numbers(config, multipliers)) / math.prod(_numbers(config, divisors))
    return LogitScaling(scale=scale, cap=next(iter(_numbers(config, CAPS)), None))


def _numbers(config: PreTrainedConfig, names: tuple[str, ...]) -> list[float]:
    values = (getattr(config, name, None) for name in names)
    return [float(value) for value in values if isinstance(value, int | float) and value]
