"""Which rows share a band of their hashes with an earlier row: bands -> **pairs to compare**.

Each row is paired with the first one of each of its bands, so that pairs grow with the rows. Bands and pairs are sorted
by DuckDB, which does it on disk in bounded memory, where grouping and joining as many do not fit. Pairs that turn out
to be alike go to the table `alike`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa

_TOGETHER = 65_536
"""Sorted rows that are looked at at once."""

Pairs = tuple[np.ndarray, np.ndarray]
"""Numbers of rows, and of earlier ones: uint32 [N] each."""


class Workspace(Protocol):
    """Where bands and pairs lie: a catalogue of rollouts, or the features of a pipeline of curation."""

    @property
    def connection(self) -> duckdb.DuckDBPyConnection: ...

    @property
    def scratch(self) -> Path: ...


def create_bands(workspace: Workspace) -> None:
    workspace.connection.execute("CREATE TABLE bands (band UBIGINT, number UINTEGER)")
    workspace.connection.execute("CREATE TABLE pairs (number UINTEGER, first UINTEGER)")


def drop_bands(workspace: Workspace) -> None:
    for made in ("bands", "pairs"):
        workspace.connection.execute(f"DROP TABLE {made}")


def add_bands(workspace: Workspace, number: int, bands: np.ndarray) -> None:
    """Of the rows from `number` on; `bands` is uint64 [rows, bands], in which scope and place of each are mixed."""
    numbers = np.arange(number, number + len(bands), dtype=np.uint32)
    _insert(workspace, "bands", {"band": bands.reshape(-1), "number": np.repeat(numbers, bands.shape[1])})


def candidates(workspace: Workspace) -> Iterator[Pairs]:
    """Each pair once, in the order of the rows: a row has at most as many as it has bands."""
    run: tuple[np.uint64, np.uint32] | None = None
    for band, number in _sorted(workspace, "bands", "band", "number"):
        first = _first_of_each(band, number, run)
        run = band[-1], first[-1]
        later = number > first
        _insert(workspace, "pairs", {"number": number[later], "first": first[later]})
    last = np.uint64(0)
    for number, first in _sorted(workspace, "pairs", "number", "first"):
        pairs = number.astype(np.uint64) << np.uint64(32) | first
        fresh = np.diff(pairs, prepend=last) != 0
        last = pairs[-1]
        yield number[fresh], first[fresh]


def _first_of_each(band: np.ndarray, number: np.ndarray, run: tuple[np.uint64, np.uint32] | None) -> np.ndarray:
    """The least number of each one's band; `run` is band and least number of the rows before these."""
    begins = np.flatnonzero(np.diff(band, prepend=~band[0]))
    firsts = number[begins]
    if run is not None and band[0] == run[0]:
        firsts[0] = run[1]
    return np.repeat(firsts, np.diff(begins, append=len(band)))


def create_alike(workspace: Workspace) -> None:
    workspace.connection.execute("CREATE TABLE alike (position BIGINT, first BIGINT, likeness FLOAT)")


def add_alike(
    workspace: Workspace, positions: np.ndarray, firsts: np.ndarray, likeness: np.ndarray, least: float
) -> None:
    """Those of the pairs, by their positions, that are at least so like."""
    near = likeness >= least
    columns = {"position": positions[near], "first": firsts[near], "likeness": likeness[near]}
    _insert(workspace, "alike", columns)


def _insert(workspace: Workspace, table: str, columns: dict[str, np.ndarray]) -> None:
    workspace.connection.register("added", pa.table(columns))
    workspace.connection.execute(f"INSERT INTO {table} FROM added")
    workspace.connection.unregister("added")


def _sorted(workspace: Workspace, table: str, one: str, other: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    found = workspace.connection.cursor().sql(f"SELECT {one}, {other} FROM {table} ORDER BY {one}, {other}")
    for batch in found.to_arrow_reader(_TOGETHER):
        if batch.num_rows:
            yield batch[one].to_numpy(), batch[other].to_numpy()
