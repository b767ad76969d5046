"""Engines of a stage on devices of a size -> **weights, cache, sequences at once**, and what of it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.learner.measure.model_shape import ModelShape

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRoom:
    """Of one device of an engine, in GiB, and of the engine as a whole."""

    weights_gib: float
    cache_gib: float
    cached_tokens: int
    """Of the whole engine."""
    longest: int
    """Tokens of a sequence, at most."""

    @property
    def sequences(self) -> int:
        """Of the greatest length, that the cache holds at once."""
        return self.cached_tokens // self.longest


def engine_room(shape: ModelShape, rollout: Any, device_gib: float | None) -> EngineRoom | None:
    """`rollout` is the section of a stage, or an engine of a judge; None where the cache takes what is left of a device
    of unknown size."""
    devices = getattr(rollout, "devices_per_actor", None) or rollout.devices
    weights = 2 * shape.parameters / devices / GIB
    cache = rollout.kv_cache_gib
    if cache is None:
        if device_gib is None:
            return None
        cache = max(0.0, device_gib * rollout.memory_share - weights)
    return EngineRoom(
        weights_gib=weights,
        cache_gib=cache,
        cached_tokens=int(cache * GIB / shape.cached_bytes(devices)),
        longest=rollout.max_model_tokens,
    )


def engine_faults(shape: ModelShape, rollout: Any, device_gib: float | None) -> Iterator[str]:
    """Lengths that the model or the cache does not hold, heads that do not divide."""
    devices = rollout.devices_per_actor
    if shape.heads % devices:
        yield (
            f"rollout.devices_per_actor {devices} does not divide the {shape.heads} attention heads of the model: "
            "choose a divisor"
        )
        return
    if shape.context is not None and rollout.max_model_tokens > shape.context:
        yield (
            f"rollout.max_model_tokens {rollout.max_model_tokens} exceeds the model's max_position_embeddings "
            f"{shape.context}: lower it"
        )
    room = engine_room(shape, rollout, device_gib)
    if room is not None and not room.sequences:
        yield (
            f"the KV cache of an engine holds {room.cached_tokens} tokens ({room.cache_gib:.1f} GiB a device beside "
            f"{room.weights_gib:.1f} of weights), and rollout.max_model_tokens is {room.longest}: a higher "
            "rollout.devices_per_actor, rollout.memory_share or rollout.kv_cache_gib, or a lower max_model_tokens"
        )


def judge_fault(scorer: ScorerConfig, shape: ModelShape, device_gib: float) -> str | None:
    """A judge that its devices do not hold."""
    room = engine_room(shape, scorer.engine, device_gib)
    needed = room.weights_gib + room.cache_gib
    if needed > device_gib:
        return (
            f"scorer {scorer.name} holds at least {needed:.0f} GiB on each of its {scorer.engine.devices} devices, "
            f"which has {device_gib:g}: a higher engine.devices, or a lower engine.kv_cache_gib"
        )
    if not room.sequences:
        return (
            f"the KV cache of scorer {scorer.name} holds {room.cached_tokens} tokens, and engine.max_model_tokens is "
            f"{room.longest}: raise engine.kv_cache_gib, or lower max_model_tokens"
        )
    return None
