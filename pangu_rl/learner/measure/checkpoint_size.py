"""A stage's configuration -> **how large its checkpoints are at least**, before there is one."""

from __future__ import annotations

from typing import Any

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.learner.measure.memory_inputs import WIDE, number_bytes
from pangu_rl.learner.measure.model_shape import read_shape, stored_parameters


def least_checkpoint_bytes(config: Any) -> int:
    """The model as a folder, and what AdamW keeps of the parameters that are trained: two moments, and under ZeRO their
    float32 weights.

    0 of a stage without checkpoints, with adapters, which are small, or whose model's weights are not here.
    """
    learner = getattr(config, "learner", None)
    if learner is None or getattr(learner, "lora", None) is not None:
        return 0
    folder, size = resolve_path(config.model.path), number_bytes(config.model.dtype)
    total = stored_parameters(folder)
    if total is None:
        return 0
    kept = 3 * WIDE if learner.zero_stage else 2 * size
    shape = read_shape(folder)
    parts = {} if shape is None or not isinstance(learner, LearnerConfig) else shape.parts
    trained = sum(count for name, count in parts.items() if name in learner.trainable)
    return total * size + trained * kept
