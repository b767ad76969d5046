"""Rows of several files -> **one list in which each file has its weight**."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from pangu_rl.data.rows import Loaded, evenly
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
        rows = list(zip(loaded.records, loaded.numbers, strict=True))
        whole, share = int(weight), weight - int(weight)
        for copy in range(whole + bool(share)):
            taken = rows if copy < whole else evenly(rows, max(1, round(share * len(rows))))
            for record, number in taken:
                uid = record.uid if copy == 0 else f"{record.uid}#{copy + 1}"
                if uid in origin:
                    raise DataError(f"id {uid!r} is of a row of {origin[uid]} and of {loaded.path}: ids must be unique")
                origin[uid] = str(loaded.path)
                records.append(record if copy == 0 else replace(record, uid=uid))
                numbers.append(number)
    notes = [f"{loaded.path.name}: {len(loaded.records)} rows with weight {weight:g}" for loaded, weight in parts]
    return replace(
        first,
        records=records,
        numbers=numbers,
        skipped=[line for loaded, _ in parts for line in loaded.skipped],
        notes=[*notes, *(note for loaded, _ in parts for note in loaded.notes)],
    )
