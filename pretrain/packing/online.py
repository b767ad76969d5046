"""Packing while training, MindVL's mode: a stream of samples -> **packs**, from a small pool that a checkpoint holds.

For data that is not known beforehand. Text, multimodal and web-to-code samples are packed apart and meet in the global
batch (`PacksApart`). Against the offline plan it loses a little fill, and the ranks' loads are what the stream makes
them; the cap on visual tokens keeps the worst away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

from pangu_rl.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One sample as the stream names it."""

    id: str | int
    tokens: int
    visual_tokens: int = 0
    patch_pairs: int = 0
    """Pairs of patches within a frame, over all of the sample's frames."""
    patches: int = 0
    """Of all of its frames; how many make a token, the model's family says."""


Unit = Literal["packs", "tokens", "samples"]
WEIGHTS: dict[Unit, Callable[[Sequence[StreamSample]], int]] = {
    "packs": lambda pack: 1,
    "tokens": lambda pack: sum(sample.tokens for sample in pack),
    "samples": len,
}
"""How much of each unit a pack is."""


class OnlinePacker:
    """Holds at most `pool` samples; a full pool gives a pack, which the oldest sample opens, so none waits for ever."""

    def __init__(self, context: int, visual_tokens: int | None = None, pool: int = 200) -> None:
        """`context` and `visual_tokens` are the most that a pack may have."""
        if min(context, pool, 1 if visual_tokens is None else visual_tokens) < 1:
            raise ConfigError(f"context {context}, visual tokens {visual_tokens}, pool {pool}: must be at least 1")
        self.context = context
        self.visual_tokens = context if visual_tokens is None else visual_tokens
        self.pool = pool
        self.skipped: list[str | int] = []
        """Samples that fit into no pack, in the order they came."""
        self._waiting: list[StreamSample] = []

    def add(self, sample: StreamSample) -> list[StreamSample] | None:
        """Take a sample in; returns a pack when the pool was full."""
        if sample.tokens < 1 or not 0 <= sample.visual_tokens <= sample.tokens:
            raise DataError(f"sample {sample.id}: {sample.tokens} tokens, {sample.visual_tokens} of them visual")
        if sample.tokens > self.context or sample.visual_tokens > self.visual_tokens:
            self.skipped.append(sample.id)
            return None
        self._waiting.append(sample)
        return self._pack() if len(self._waiting) > self.pool else None

    def flush(self) -> list[list[StreamSample]]:
        """The packs of all samples that are left, at the end of the stream."""
        packs = []
        while self._waiting:
            packs.append(self._pack())
        return packs

    def state_dict(self) -> dict[str, Any]:
        """JSON values: what came in and has not gone out in a pack."""
        return {"waiting": [list(astuple(sample)) for sample in self._waiting], "skipped": list(self.skipped)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._waiting = [StreamSample(*values) for values in state["waiting"]]
        self.skipped = list(state["skipped"])

    def _pack(self) -> list[StreamSample]:
        pack = [self._waiting.pop(0)]
        room, visual_room = self.context - pack[0].tokens, self.visual_tokens - pack[0].visual_tokens
        for sample in sorted(self._waiting, key=lambda sample: -sample.tokens):
            if sample.tokens <= room and sample.visual_tokens <= visual_room:
                pack.append(sample)
                room -= sample.tokens
                visual_room -= sample.visual_tokens
        taken = {id(sample) for sample in pack}
        self._waiting = [sample for sample in self._waiting if id(sample) not in taken]
        return pack


class PacksApart:
    """Streams that are packed apart, each with its packer, and mixed pack by pack: the next one is always of the stream
    that is furthest behind its share.

    Whoever asks for the `next_stream` feeds it by `add` until it is `ready`, and takes its pack. Shares may differ from
    pack to pack; what a stream was owed then, it is owed for good.
    """

    def __init__(self, packers: Mapping[str, OnlinePacker], unit: Unit = "packs") -> None:
        """Shares are of the packs of the whole stage, or of their tokens or samples."""
        if not packers:
            raise ConfigError("no stream to pack: each source has share 0")
        self._packers, self._weigh = dict(packers), WEIGHTS[unit]
        self._ready: dict[str, deque[list[StreamSample]]] = {name: deque() for name in packers}
        self._due = dict.fromkeys(packers, 0.0)
        self._given = dict.fromkeys(packers, 0)

    def add(self, stream: str, sample: StreamSample) -> None:
        """Feed one stream."""
        pack = self._packers[stream].add(sample)
        if pack is not None:
            self._ready[stream].append(pack)

    def next_stream(self, shares: Mapping[str, float]) -> str:
        """The stream of the next pack; `shares` add up to 1."""
        there = [name for name in self._given if shares[name] > 0]
        return max(there, key=lambda name: self._due[name] + shares[name] - self._given[name])

    def ready(self, stream: str) -> bool:
        """Whether a pack of it is there."""
        return bool(self._ready[stream])

    def take(self, stream: str, shares: Mapping[str, float]) -> list[StreamSample]:
        """Its oldest pack."""
        pack = self._ready[stream].popleft()
        weight = self._weigh(pack)
        self._given[stream] += weight
        for name, share in shares.items():
            self._due[name] += share * weight
        return pack

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        ready = {name: [[list(astuple(s)) for s in pack] for pack in packs] for name, packs in self._ready.items()}
        packers = {name: packer.state_dict() for name, packer in self._packers.items()}
        return {"packers": packers, "ready": ready, "given": dict(self._given), "due": dict(self._due)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, packer in self._packers.items():
            packer.load_state_dict(state["packers"][name])
            self._ready[name] = deque([StreamSample(*values) for values in pack] for pack in state["ready"][name])
        self._given, self._due = dict(state["given"]), dict(state["due"])
