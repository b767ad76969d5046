"""Packs -> **few bytes for the way to the ranks** -> packs, to the bit.

Of the 48 bytes that a trained token has in a `Pack`, only its id and its log-prob are news; positions, targets and
advantages are counts and repetitions. Arrays that are runs (constant, or one more at each place) travel as the runs,
other integers as int32 where they fit. Letters: R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pangu_rl.records import MiniBatch, Pack

WORTH = 8
"""Elements that a run must have on average to be shorter than what it stands for."""

SAMPLE = 1024


@dataclass(frozen=True, slots=True)
class Runs:
    """Values first, first + step, first + 2 step, ... run after run."""

    firsts: np.ndarray
    """[R], of the array's type."""
    starts: np.ndarray
    """int64 [R], the place of each run's first element."""
    step: int
    shape: tuple[int, ...]

    def expanded(self) -> np.ndarray:
        size = int(np.prod(self.shape))
        lengths = np.diff(self.starts, append=size)
        if not self.step:
            return np.repeat(self.firsts, lengths).reshape(self.shape)
        counted = np.arange(size, dtype=self.firsts.dtype) + np.repeat(self.firsts - self.starts, lengths)
        return counted.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Narrow:
    """Of int64, as int32."""

    values: np.ndarray


@dataclass(frozen=True, slots=True)
class Compact:
    """What a pack travels as: its fields, arrays encoded."""

    fields: dict[str, Any]


def compact(batches: Sequence[MiniBatch]) -> list[MiniBatch]:
    """Mini-batches whose packs are `Compact`, for `expand` at the other end."""
    return [replace(batch, packs=tuple(map(_compact, batch.packs))) for batch in batches]


def expand(batches: Sequence[MiniBatch]) -> list[MiniBatch]:
    """Mini-batches with whole packs; those that never were compact are what they are."""
    return [replace(batch, packs=tuple(map(_expand, batch.packs))) for batch in batches]


def encode(array: np.ndarray) -> np.ndarray | Runs | Narrow:
    flat = array.reshape(-1)
    bits = flat.view(f"i{flat.itemsize}")  # 0.0 equals -0.0, and NaN nothing
    for step in (1, 0) if array.dtype == np.int64 else (0,):
        # A look at the beginning spares most arrays that are no such runs the whole comparison.
        if _breaks(bits[:SAMPLE], step).size * WORTH > min(SAMPLE, len(bits)):
            continue
        starts = np.concatenate([[0], _breaks(bits, step)])
        if len(starts) * WORTH <= len(bits):
            return Runs(flat[starts], starts, step, array.shape)
    if array.dtype == np.int64:
        narrow = array.astype(np.int32)
        if np.array_equal(narrow, array):
            return Narrow(narrow)
    return array


def decode(encoded: np.ndarray | Runs | Narrow) -> np.ndarray:
    if isinstance(encoded, Runs):
        return encoded.expanded()
    return encoded.values.astype(np.int64) if isinstance(encoded, Narrow) else encoded


def _breaks(bits: np.ndarray, step: int) -> np.ndarray:
    """Places at which a run does not go on."""
    return np.flatnonzero(bits[1:] - bits[:-1] != step) + 1


def _compact(pack: Pack) -> Compact:
    values = {field.name: getattr(pack, field.name) for field in fields(pack)}
    arrays = {name: encode(value) for name, value in values.items() if isinstance(value, np.ndarray)}
    columns = {name: encode(column) for name, column in pack.columns.items()}
    return Compact({**values, **arrays, "columns": columns})


def _expand(pack: Pack | Compact) -> Pack:
    if isinstance(pack, Pack):
        return pack
    columns = {name: decode(column) for name, column in pack.fields["columns"].items()}
    arrays = {n: decode(v) for n, v in pack.fields.items() if isinstance(v, np.ndarray | Runs | Narrow)}
    return Pack(**{**pack.fields, **arrays, "columns": columns})
