"""A configuration that can run -> **what in it is hardly meant**; told before the run, which goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HIGHEST_RATE = 1e-2
"""Language models and towers are trained at 1e-7 to 1e-3."""


def doubts(config: Any) -> Iterator[str]:
    """Of a stage that trains: a line each, with both values and the way out."""
    optimizer, steps = getattr(config.learner, "optimizer", None), config.trainer.steps
    if optimizer is None:  # the vision stages have one of their own
        return
    if steps is not None and optimizer.warmup_steps >= steps:
        yield (
            f"learner.optimizer.warmup_steps is {optimizer.warmup_steps} and trainer.steps is {steps}: the rate hardly "
            "reaches learner.optimizer.lr; lower the first, or raise the second"
        )
    if optimizer.lr > HIGHEST_RATE:
        yield f"learner.optimizer.lr is {optimizer.lr:g}, and language models are trained at 1e-7 to 1e-3: lower it"
