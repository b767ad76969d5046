"""What a weight sync hands over: tensors by name, with digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightTensor:
    """Where one published tensor lies and what it must hash to."""

    name: str
    """Hugging Face checkpoint name, or peft's of an adapter's."""
    shape: tuple[int, ...]
    dtype: str
    offset: int
    """Byte offset in the buffer of its bucket."""
    digest: str
    """xxh3-128 of the tensor's bytes, hex."""
    bucket: int = 0
    """Which buffer it lies in; a shared one is the only one, a broadcast sends them in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightManifest:
    """What the learner published: the engine must consume exactly these names with exactly these bytes."""

    version: int
    tensors: tuple[WeightTensor, ...]
    transport: str
    """`shm` (a buffer file on this node) or `broadcast` (a collective over the rollout group)."""
    location: str
    """Buffer path, or `host:port` of the collective's store."""
    adapter: Mapping[str, Any] | None = None
    """Of tensors that are a low-rank adapter beside the model's own weights: peft's configuration of it."""
