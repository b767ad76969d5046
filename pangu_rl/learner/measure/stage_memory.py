"""A stage's configuration -> **its longest micro-batch** -> what a learner rank holds, for the plan of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.preference import DpoDataConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.learner.measure.memory_estimate import Memory, estimate
from pangu_rl.learner.measure.memory_inputs import DEVICE, HOST, MicroBatch, Settings
from pangu_rl.learner.measure.model_shape import ModelShape, read_shape, stored_parameters
from pangu_rl.learner.measure.vision_memory import vision_memory


def memory_of(paths: Sequence[str], on_devices: bool) -> Callable[[Any], Mapping[str, int] | None]:
    """A stage's configuration -> bytes of a rank by part, of the largest of the models at `paths`; None of one whose
    `config.json` is not here, or says nothing that we know."""
    shapes = [shape for path in paths if (shape := read_shape(resolve_path(path))) is not None]
    largest = max(shapes, key=lambda shape: shape.parameters, default=None)

    def parts(config: Any) -> Mapping[str, int] | None:
        memory = stage_memory(largest, on_devices, config) if largest is not None else None
        return None if memory is None else asdict(memory)

    return parts


def weights_gib(path: str) -> float | None:
    """Weights of the model at `path` in GiB, two bytes each whatever its files have, by their headers or, where there
    are none, by its `config.json`; None as of `memory_of`."""
    folder = resolve_path(path)
    parameters = stored_parameters(folder)
    if parameters is None and (shape := read_shape(folder)) is not None:
        parameters = shape.parameters
    return None if parameters is None else 2 * parameters / 2**30


def stage_memory(shape: ModelShape, on_devices: bool, config: Any) -> Memory | None:
    """At the worst: the longest sequences, or the fullest micro-batch, that the stage lets through, every token a
    target, and of a stage with pictures every token a picture's. A reference model is whole on every rank; beside
    adapters there is none."""
    if isinstance(config, VisionStageConfig):
        return vision_memory(shape, config)
    learner = config.learner
    tokens = max(learner.pack_tokens, learner.micro_batch_tokens or 0, longest_sequence(config))
    has_pictures = shape.tower is not None and config.data.media_root is not None
    patches = tokens * shape.tower.cell if has_pictures else 0
    batch = MicroBatch(tokens=tokens, targets=tokens, patches=patches)
    settings = Settings.of(learner, config.model.dtype)
    memory = estimate(shape, settings, batch, DEVICE if on_devices else HOST)
    has_reference = getattr(getattr(config, "algorithm", None), "kl_weight", 0.0) > 0 and learner.lora is None
    return replace(memory, weights=memory.weights + shape.parameters * settings.size) if has_reference else memory


def longest_sequence(config: Any) -> int:
    """Tokens of the longest tree that a stage packs: a prompt with one answer, a pair with both; 0 where packs bound
    it."""
    data = config.data
    if hasattr(config, "rollout"):
        return data.max_prompt_tokens + config.rollout.max_new_tokens
    longest = getattr(data, "max_tokens", 0)
    return 2 * longest if isinstance(data, DpoDataConfig) else longest
