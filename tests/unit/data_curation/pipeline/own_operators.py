"""Operators of a user's own file, each for one promise of the engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_curation.pipeline.operator import Features, row_operator, set_operator
from data_curation.pipeline.record import Annotate, Drop, Edit, Keep, Record, Repeat, Split, Verdict
from pangu_rl.errors import DataError


@row_operator(cost="cpu")
def no_odd(record: Record, *, least: int = 0) -> Verdict:
    number = record.row["n"]
    if number < 0:
        raise DataError(f"n is {number}")
    return (
        Drop("odd", f"n is {number}", {"n": number}) if number % 2 and number >= least else Keep(values={"n": number})
    )


@row_operator(cost="cpu", batch=3)
def doubled(records: list[Record]) -> list[Verdict]:
    if any(record.row["n"] == 66 for record in records):
        raise ValueError("66 spoils its batch")
    return [Edit({**record.row, "n": 2 * record.row["n"]}, "doubled") for record in records]


@row_operator(cost="endpoint")
async def halved(record: Record) -> Verdict:
    return Annotate({"half": record.row["n"] / 2})


def number_of(record: Record) -> dict[str, Any] | None:
    return None if record.row["n"] == 0 else {"n": record.row["n"]}


@set_operator(features=number_of, schema=pa.schema([("n", pa.int64())]))
def largest(rows: Features, *, keep: int) -> Iterator[tuple[int, Verdict]]:
    """Drops all but the largest ones; the largest of all is there twice."""
    taken = rows.connection.execute("SELECT position FROM features ORDER BY n DESC, position").fetchall()
    best = [position for (position,) in taken[:keep]]
    for table in rows.tables("position", rows=2):
        for position in table["position"].to_pylist():
            if position == best[0]:
                yield position, Repeat(2)
            elif position not in best:
                yield position, Drop("small")


@row_operator(cost="cpu")
def killed_once(record: Record, *, at: int, marker: str) -> Verdict:
    """Ends its process at a row: the first time, or without a `marker` each time."""
    if record.row["n"] == at and not (marker and Path(marker).exists()):
        if marker:
            Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return None


@row_operator(cost="cpu")
def in_parts(record: Record) -> Verdict:
    """As many rows as `n` says."""
    return Split([{"n": part} for part in range(record.row["n"])], "taken apart")


@row_operator(cost="cpu")
def careless(record: Record) -> Verdict:
    """Forgets the id, or notes what JSON cannot hold."""
    return Edit({"m": record.row["n"]}, "renamed") if record.row["n"] else Annotate({"seen": {1, 2}})


@row_operator(cost="cpu")
def meddler(record: Record) -> Verdict:
    record.row["n"] = 1
    return None


_seen: list[str] = []


@row_operator(cost="cpu")
def every_other(record: Record) -> Verdict:
    _seen.append(record.uid)
    return Drop("even call") if len(_seen) % 2 == 0 else None


def no_operator(record: Record) -> Verdict:
    return None


@row_operator(cost="cpu", guarded=True)
def decoded(record: Record) -> Verdict:
    """What a decoder may do to its process, as the row says."""
    match record.row["does"]:
        case "fault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(60)
        case "swell":
            bytearray(b"x" * (200 << 20))
        case "raise":
            raise DataError("no such stream")
    return Split([{"page": 1}, {"page": 2, "picture": "x" * (2 << 20)}], "became pages")
