"""Rows of several files and sources -> **one list in which each has its weight, or its share**."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pangu_rl.data.files.rows import Loaded, evenly
from pangu_rl.data.mixing.shares import times_by_source
from pangu_rl.errors import DataError

Record = TypeVar("Record")


def mixed(parts: Sequence[tuple[Loaded[Record], float]]) -> Loaded[Record]:
    """The rows of all files, each file's as many times an epoch as its weight says: 2 has each row twice, 0.5 every
    second one, evenly over the file. The copies have names of their own (`uid#2`).

    Raises:
        DataError: two files have a row of one id.
    """
    (first, _), *others = parts
    if not others:
        return first
    records: list[Record] = []
    numbers: list[int] = []
    origin: dict[str, str] = {}
    for loaded, weight in parts:
        for record, number in _times(list(zip(loaded.records, loaded.numbers, strict=True)), weight):
            if record.uid in origin:
                raise DataError(
                    f"id {record.uid!r} is of a row of {origin[record.uid]} and of {loaded.path}: ids must be unique"
                )
            origin[record.uid] = str(loaded.path)
            records.append(record)
            numbers.append(number)
    notes = [f"{loaded.path.name}: {len(loaded.records)} rows with weight {weight:g}" for loaded, weight in parts]
    return replace(
        first,
        records=records,
        numbers=numbers,
        skipped=[line for loaded, _ in parts for line in loaded.skipped],
        notes=[*notes, *(note for loaded, _ in parts for note in loaded.notes)],
    )


def by_shares(
    loaded: Loaded[Record], shares: Mapping[str, float], size: Callable[[Record], float] = lambda record: 1.0
) -> Loaded[Record]:
    """The rows of all sources, each source's as many times an epoch as gives it its share of the rows, or of their
    `size`; without shares as they are. Copies have names of their own.

    Raises:
        ConfigError: rows of a source without a share, or a share of a source without rows.
    """
    if not shares:
        return loaded
    have: Counter[str] = Counter()
    rows: dict[str, list[tuple[Record, int]]] = {}
    for record, number in zip(loaded.records, loaded.numbers, strict=True):
        have[record.source] += size(record)
        rows.setdefault(record.source, []).append((record, number))
    times = times_by_source(shares, have, str(loaded.path))
    taken = [pair for source, weight in times.items() for pair in _times(rows[source], weight)]
    notes = [f"source {source}: {len(rows[source])} rows, each {weight:.3g} times" for source, weight in times.items()]
    records, numbers = map(list, zip(*taken, strict=True))
    return replace(loaded, records=records, numbers=numbers, notes=[*loaded.notes, *notes])


def named_by_file(loaded: Loaded[Record]) -> Loaded[Record]:
    """Rows without a source have the name of their file."""
    return replace(
        loaded, records=[row if row.source else replace(row, source=loaded.path.stem) for row in loaded.records]
    )


def first_copy(uid: str, known: Container[str]) -> str:
    """The uid of the row that the one with `uid` is a copy of, or is itself."""
    return uid if uid in known else uid.rpartition("#")[0]


def _times(rows: Sequence[tuple[Record, int]], weight: float) -> Iterator[tuple[Record, int]]:
    whole, share = int(weight), weight - int(weight)
    for copy in range(whole + bool(share)):
        taken = rows if copy < whole else evenly(rows, max(1, round(share * len(rows))))
        for record, number in taken:
            yield (record if copy == 0 else replace(record, uid=f"{record.uid}#{copy + 1}")), number
