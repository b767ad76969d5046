"""Which rows share a band of their hashes with an earlier row: bands -> **pairs to compare**.

    bands --by their value--> buckets: each row beside the first of its band --by rows--> buckets: pairs in order

Each row is paired with the first one of each of its bands, so that pairs grow with the rows. Pairs that turn out to be
alike go to the table `alike`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa

from rollout.export.buckets import SIZE, Buckets

_BAND = np.dtype([("band", np.uint64), ("number", np.uint32)])
_LOW = np.uint64(32)
"""Bits of a row's number, in a pair that is one word."""
_TOGETHER = 4096
"""Pairs that are compared at once."""

Pairs = tuple[np.ndarray, np.ndarray]
"""Numbers of rows, and of earlier ones: uint64 [N] each."""


class Workspace(Protocol):
    """Where pairs lie: a catalogue of rollouts, or the features of a pipeline of curation."""

    @property
    def connection(self) -> duckdb.DuckDBPyConnection: ...

    @property
    def scratch(self) -> Path: ...


class SharedBands:
    """Bands of up to `rows` rows, `bands` of each."""

    def __init__(self, scratch: Path, rows: int, bands: int) -> None:
        self._rows = max(1, SIZE // bands)
        """Whose pairs lie in one bucket."""
        self._bands = Buckets(scratch, rows * bands // SIZE + 1, _BAND)
        self._pairs = Buckets(scratch, rows // self._rows + 1, np.dtype(np.uint64))

    def add(self, number: int, bands: np.ndarray) -> None:
        """Of the rows from `number` on; `bands` is uint64 [rows, bands], in which scope and place of each are mixed."""
        items = np.empty(bands.size, _BAND)
        items["band"] = bands.reshape(-1)
        items["number"] = np.repeat(np.arange(number, number + len(bands), dtype=np.uint32), bands.shape[1])
        # By the upper half, which all of a mixed word has gone into.
        self._bands.add((items["band"] >> _LOW) * np.uint64(self._bands.count) >> _LOW, items)

    def candidates(self, likely: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> Iterator[Pairs]:
        """Each pair once, in the order of the rows: a row has at most as many as it has bands. `likely` tells which
        of them, by their numbers, are worth it, before they are put in order."""
        for bucket in range(self._bands.count):
            firsts = np.empty(0, _BAND)
            for some in self._bands.read(bucket):
                firsts, pairs = _paired(np.concatenate([firsts, some]))
                pairs = pairs if likely is None else pairs[likely(*_numbers(pairs))]
                self._pairs.add((pairs >> _LOW) // np.uint64(self._rows), pairs)
        self._bands.close()
        for bucket in range(self._pairs.count):
            if found := list(self._pairs.read(bucket)):
                pairs = np.unique(np.concatenate(found))
                for start in range(0, len(pairs), _TOGETHER):
                    yield _numbers(pairs[start : start + _TOGETHER])
        self._pairs.close()


def _paired(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The item of the least row of each band, and a pair with it for each other row."""
    band, number = items["band"].copy(), items["number"].copy()
    order = np.argsort(band)
    band, number = band[order], number[order]
    begins = np.flatnonzero(np.diff(band, prepend=~band[:1]))
    firsts = np.empty(len(begins), _BAND)
    firsts["band"], firsts["number"] = band[begins], np.minimum.reduceat(number, begins)
    first = np.repeat(firsts["number"], np.diff(begins, append=len(band)))
    later = number > first
    return firsts, number[later].astype(np.uint64) << _LOW | first[later]


def _numbers(pairs: np.ndarray) -> Pairs:
    return pairs >> _LOW, pairs & np.uint64(2**32 - 1)


def create_alike(workspace: Workspace) -> None:
    workspace.connection.execute("CREATE TABLE alike (position BIGINT, first BIGINT, likeness FLOAT)")


def add_alike(
    workspace: Workspace, positions: np.ndarray, firsts: np.ndarray, likeness: np.ndarray, least: float
) -> None:
    """Those of the pairs, by their positions, that are at least so like."""
    near = likeness >= least
    columns = {"position": positions[near], "first": firsts[near], "likeness": likeness[near]}
    workspace.connection.register("added", pa.table(columns))
    workspace.connection.execute("INSERT INTO alike FROM added")
    workspace.connection.unregister("added")
