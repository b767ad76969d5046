"""A pack's segment tree -> **which queries meet which keys**, as the kernels take it: built once, in O(segments).

What a kernel for trees takes is the tree itself. A kernel for sequences of variable length gets passes: in the first
every segment meets itself, causally; in one more for each level of the tree a segment's descendants meet all of it.
With a window there is a single pass, in which every segment meets itself and as much of its ancestors as it may see.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pangu_rl.accelerators.transfer import to_device


@dataclass(frozen=True, kw_only=True)
class Pass:
    """N runs of queries, each with a run of keys of its own."""

    queries: Tensor | None
    """int64 [Q], the token of each query; None takes all tokens in order."""
    keys: Tensor | None
    """int64 [L], as `queries`. A token may stand in several runs."""
    query_ends: tuple[int, ...]
    """[N] cumulative lengths of the runs of queries."""
    key_ends: tuple[int, ...]
    causal: bool
    """The last query of a run sees all of its keys, each one before it one key less; else every query sees all."""
    device: torch.device

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """int32 [N + 1] from 0 on the device, of queries and of keys."""
        ends = (np.array((0, *ends), dtype=np.int32) for ends in (self.query_ends, self.key_ends))
        return tuple(to_device(bounds, self.device) for bounds in ends)

    @cached_property
    def longest(self) -> tuple[int, int]:
        """Of the runs of queries and of keys."""
        return tuple(int(np.diff(ends, prepend=0).max()) for ends in (self.query_ends, self.key_ends))


@dataclass(frozen=True)
class Segments:
    """The tree of one pack."""

    starts: np.ndarray
    """int64 [S + 1], first token of each segment, and T."""
    parents: np.ndarray
    """int64 [S], -1 for a root; parents stand before their children."""
    device: torch.device
    _passes: dict[int, tuple[Pass, ...]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [S]"""
        return np.diff(self.starts)

    @cached_property
    def behind(self) -> np.ndarray:
        """int64 [S], tokens of each segment's ancestors."""
        behind = np.zeros(len(self.parents), dtype=np.int64)
        for segment, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                behind[segment] = behind[parent] + self.lengths[parent]
        return behind

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, ancestors included."""
        return int((self.behind + self.lengths).max(initial=0))

    @cached_property
    def host(self) -> tuple[Tensor, Tensor]:
        """`starts` and `parents` as tensors."""
        return torch.from_numpy(self.starts), torch.from_numpy(self.parents)

    def ancestors(self, segment: int) -> list[int]:
        """Nearest first."""
        found = []
        while (segment := int(self.parents[segment])) >= 0:
            found.append(segment)
        return found

    def passes(self, window: int) -> tuple[Pass, ...]:
        """Empty segments are in none of them, and no run of keys is empty. A window that hides nothing is none."""
        window = window if window < self.longest else 0
        if window not in self._passes:
            self._passes[window] = (self._windowed(window),) if window else (self._own(), *self._levels())
        return self._passes[window]

    def _own(self) -> Pass:
        ends = tuple(int(end) for end, length in zip(self.starts[1:], self.lengths) if length)
        return Pass(queries=None, keys=None, query_ends=ends, key_ends=ends, causal=True, device=self.device)

    def _levels(self) -> list[Pass]:
        """Descendants of the segments of one depth, and those segments, for each depth that has both."""
        levels: dict[int, dict[int, list[int]]] = {}
        for segment in self._filled():
            chain = [ancestor for ancestor in self.ancestors(segment) if self.lengths[ancestor]]
            for depth, ancestor in enumerate(reversed(chain)):
                levels.setdefault(depth, {}).setdefault(ancestor, []).append(segment)
        passes = []
        for _, level in sorted(levels.items()):
            queries, query_ends = self._runs([[(segment, 0) for segment in own] for own in level.values()])
            keys, key_ends = self._runs([[(ancestor, 0)] for ancestor in level])
            passes.append(
                Pass(
                    queries=queries,
                    keys=keys,
                    query_ends=query_ends,
                    key_ends=key_ends,
                    causal=False,
                    device=self.device,
                )
            )
        return passes

    def _windowed(self, window: int) -> Pass:
        runs = []
        for segment in self._filled():
            keys, left = [(segment, 0)], window - 1
            for ancestor in self.ancestors(segment):
                seen = min(left, int(self.lengths[ancestor]))
                keys.append((ancestor, int(self.lengths[ancestor]) - seen))
                left -= seen
            runs.append(keys[::-1])
        keys, key_ends = self._runs(runs)
        return replace(self._own(), keys=keys, key_ends=key_ends)

    def _filled(self) -> list[int]:
        return np.flatnonzero(self.lengths).tolist()

    def _runs(self, runs: list[list[tuple[int, int]]]) -> tuple[Tensor, tuple[int, ...]]:
        """The tokens of runs of segments, of each of which so many first tokens are left out; and the runs' ends."""
        spans = [[np.arange(self.starts[s] + skip, self.starts[s + 1]) for s, skip in run] for run in runs]
        tokens = np.concatenate([span for run in spans for span in run])
        ends = np.cumsum([sum(map(len, run)) for run in spans])
        return to_device(tokens, self.device), tuple(ends.tolist())
