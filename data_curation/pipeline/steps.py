"""Records through one operator: verdicts -> **records that go on**, the rows put aside, and what is counted of both."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, Literal

from data_curation.pipeline.guarded import guarded_verdict
from data_curation.pipeline.operator import Operator
from data_curation.pipeline.record import NOTES, Annotate, Drop, Edit, Record, Repeat, Split, Verdict
from data_curation.pipeline.verdicts import checked_verdict
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.errors import ConfigError, DataError, RunError, UserError, first_line
from rewards.children import ChildError

INPUT = "input"
"""The operator that rows are put aside by which are none."""
MEASURED = 256
"""Values of one name that are kept for the report's histograms: the first ones of each block."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Instead of a verdict: the operator raised."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that does not go on."""

    record: Record
    operator: str
    kind: Literal["drop", "error"]
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Clock:
    """Runs since it was made: the wall's clock, and what this process used of processors."""

    _began: float = field(default_factory=time.perf_counter)
    _used: float = field(default_factory=time.process_time)

    def times(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self._began, "processor_seconds": time.process_time() - self._used}


@dataclass(slots=True)
class Tally:
    """What one operator did to the rows of a block."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    edited: Counter[str] = field(default_factory=Counter)
    annotated: int = 0
    repeated: int = 0
    """Rows that one row became beyond the first."""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    values: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        # Not `asdict`, which makes a counter of pairs of a counter.
        return {name: getattr(self, name) for name in self.__slots__}

    def add(self, other: Mapping[str, Any], most: int = MEASURED) -> None:
        """The tally of further rows, as `as_dict` gives it; `most` values of a name are kept."""
        for name in ("rows_in", "rows_out", "annotated", "repeated"):
            setattr(self, name, getattr(self, name) + other[name])
        self.spend(other)
        for name in ("dropped", "errors", "edited"):
            getattr(self, name).update(other[name])
        for name, values in other["values"].items():
            kept = self.values.setdefault(name, [])
            kept += values[: most - len(kept)]

    def spend(self, times: Mapping[str, Any]) -> None:
        """As `Clock` gives them."""
        self.seconds += times["seconds"]
        self.processor_seconds += times["processor_seconds"]

    def measure(self, values: Iterable[tuple[str, Any]]) -> None:
        for name, value in values:
            if len(self.values.get(name, ())) < MEASURED and isinstance(value, Real):
                self.values.setdefault(name, []).append(float(value))


Trace = Callable[[str, Record, Verdict | Failed], None]
"""Told of each verdict that is not simply to keep: operator, record before it, verdict."""


@dataclass(slots=True)
class Passage:
    """The way of a block's records through a stage."""

    records: list[Record]
    tallies: list[Tally] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    trace: Trace | None = None

    def received(self, none: Sequence[Aside]) -> None:
        """Count what was read, and put aside what is no row."""
        tally = Tally(INPUT, rows_in=len(self.records) + len(none), rows_out=len(self.records))
        for aside in none:
            tally.errors[aside.reason] += 1
            if self.trace:
                self.trace(INPUT, aside.record, Failed(aside.reason, aside.detail))
        self.asides += none
        self.tallies.append(tally)

    def through(self, operator: Operator, concurrency: int) -> None:
        """A row operator; raises what is no row's fault, as `verdicts_of`."""
        clock = Clock()
        verdicts = verdicts_of(operator, self.records, concurrency)
        self.apply(operator.name, verdicts).spend(clock.times())

    def apply(self, name: str, verdicts: Sequence[Verdict | Failed]) -> Tally:
        """One verdict per record, in order."""
        tally = Tally(name, rows_in=len(self.records))
        going_on: list[Record] = []
        for record, verdict in zip(self.records, verdicts, strict=True):
            if self.trace and verdict is not None:
                self.trace(name, record, verdict)
            if isinstance(verdict, Failed):
                tally.errors[verdict.reason] += 1
                self.asides.append(Aside(record, name, "error", verdict.reason, verdict.detail))
                continue
            tally.measure(getattr(verdict, "values", {}).items())
            if isinstance(verdict, Drop):
                tally.dropped[verdict.reason] += 1
                self.asides.append(Aside(record, name, "drop", verdict.reason, verdict.detail))
                continue
            going_on += _changed(name, record, verdict, tally)
        self.records = going_on
        tally.rows_out = len(going_on)
        self.tallies.append(tally)
        return tally


def verdicts_of(operator: Operator, records: Sequence[Record], concurrency: int) -> list[Verdict | Failed]:
    """A verdict for each record.

    Raises:
        UserError, RunError, MemoryError: what is the fault of the configuration or the machine and of no row.
    """
    if operator.declared.batch:
        return _in_batches(operator, records, operator.declared.batch)
    if inspect.iscoroutinefunction(operator.function):
        return asyncio.run(_together(operator, records, concurrency))
    if operator.cost == "endpoint":
        with ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint") as threads:
            return list(threads.map(partial(_judged, operator), records))
    return [_judged(operator, record) for record in records]


def _judged(operator: Operator, record: Record) -> Verdict | Failed:
    try:
        if operator.declared.guarded:
            return guarded_verdict(operator, record)
        return checked_verdict(operator.function(record, **operator.settings), operator.name)
    # Whatever an operator raises on one row is that row's error: the others go on.
    except Exception as error:
        return failed(error)


def _in_batches(operator: Operator, records: Sequence[Record], size: int) -> list[Verdict | Failed]:
    found: list[Verdict | Failed] = []
    for start in range(0, len(records), size):
        batch = list(records[start : start + size])
        try:
            found += _batch(operator, batch)
        # One row may spoil a batch: each is asked for alone.
        except Exception as error:
            failed(error)
            found += [_alone(operator, record) for record in batch]
    return found


def _batch(operator: Operator, records: list[Record]) -> list[Verdict]:
    verdicts = [checked_verdict(verdict, operator.name) for verdict in operator.function(records, **operator.settings)]
    if len(verdicts) != len(records):
        raise UserError(f"operator {operator.name}: {len(verdicts)} verdicts for {len(records)} records")
    return verdicts


def _alone(operator: Operator, record: Record) -> Verdict | Failed:
    try:
        return _batch(operator, [record])[0]
    except Exception as error:  # as in `_judged`
        return failed(error)


async def _together(operator: Operator, records: Sequence[Record], concurrency: int) -> list[Verdict | Failed]:
    slots = asyncio.Semaphore(concurrency)

    async def one(record: Record) -> Verdict | Failed:
        async with slots:
            try:
                return checked_verdict(await operator.function(record, **operator.settings), operator.name)
            except Exception as error:  # as in `_judged`
                return failed(error)

    return list(await asyncio.gather(*map(one, records)))


def failed(error: Exception) -> Failed:
    """A row's error; raised again if it is no row's fault."""
    if isinstance(error, MemoryError | RunError) or (isinstance(error, UserError) and not isinstance(error, DataError)):
        raise error
    if isinstance(error, ChildError):
        if error.kind in (ConfigError.__name__, RunError.__name__):
            raise RunError(error.text)
        return Failed(error.kind, error.text)
    return Failed(type(error).__name__, first_line(error)[:500])


def _changed(name: str, record: Record, verdict: Verdict, tally: Tally) -> list[Record]:
    if isinstance(verdict, Edit):
        tally.edited[verdict.what] += 1
        return [record.with_row({**verdict.row, "id": record.uid})]
    if isinstance(verdict, Annotate):
        tally.annotated += 1
        tally.measure(verdict.notes.items())
        noted = {**record.row, NOTES: {**record.notes, name: dict(verdict.notes)}}
        return [record.with_row(noted)]
    if isinstance(verdict, Repeat):
        tally.repeated += verdict.times - 1
        return [record, *(_copy(record, number) for number in range(2, verdict.times + 1))]
    if isinstance(verdict, Split):
        tally.edited[verdict.what] += 1
        tally.repeated += len(verdict.rows) - 1
        return [_part(record, number, row) for number, row in enumerate(verdict.rows, 1)]
    return [record]


def _copy(record: Record, number: int) -> Record:
    uid = f"{record.uid}#{number}"
    return Record({**record.row, "id": uid}, uid, record.place, record.media_root)


def _part(record: Record, number: int, row: Row) -> Record:
    uid = f"{record.uid}/{number}"
    return Record({**row, "id": uid}, uid, record.place, record.media_root)
