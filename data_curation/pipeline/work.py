"""One block of a stage, in whatever process: read, apply what was decided, pass the operators, write, count.

The last thing written says that the block is done. A worker that is killed leaves nothing half: the block is worked
anew, to the same bytes.
"""

from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_curation.pipeline.blocks import Block, raw_rows
from data_curation.pipeline.doubled_ids import write_ids
from data_curation.pipeline.folder import Folder, read_lines, write_json, write_lines, write_table
from data_curation.pipeline.json_rows import json_row
from data_curation.pipeline.operator import Operator
from data_curation.pipeline.record import Record, Verdict
from data_curation.pipeline.registry import resolve_all
from data_curation.pipeline.stages import Stage, stages_of
from data_curation.pipeline.steps import INPUT, Aside, Clock, Failed, Passage, Tally, Trace, failed
from data_curation.pipeline.verdicts import from_json
from pangu_rl.config.curate import OperatorConfig
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.files.rows import row_uid

TOGETHER = 32
"""Rows that pass a stage together, so that a picture is decoded once and few are held."""
ENDPOINT_ROUNDS = 4
"""Likewise at an endpoint: so many times what is under way at once."""
BLOCK_BITS = 32
"""A row's position is that of its block, then its place among the rows that left the stage before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """What a worker needs to work blocks of a stage; it travels to other nodes."""

    operators: tuple[OperatorConfig, ...]
    stage: int
    output: Path
    media_root: Path | None
    blocks: tuple[tuple[int, Block], ...]
    """Number and place of those to work."""
    concurrency: int


def make_work(task: StageTask) -> Callable[[range], pa.Table]:
    """In a worker: a function of a range over `task.blocks`, which returns a row with what was counted of each."""
    stage = stages_of(resolve_all(task.operators))[task.stage]

    def work(some: range) -> pa.Table:
        counted = [json.dumps(work_block(task, stage, *task.blocks[index])) for index in some]
        return pa.table({"counted": pa.array(counted, pa.string())})

    return work


def work_block(task: StageTask, stage: Stage, number: int, block: Block, trace: Trace | None = None) -> dict[str, Any]:
    """Work one block and say what was counted of it."""
    folder, clock = Folder(task.output), Clock()
    if stage.number == 0:
        records = _input_records(block, task.media_root)
    else:
        records = _stored_records(folder.rows(stage.number - 1, number, last=False), task.media_root)
    decisions = _decisions(folder.decisions(stage.number - 1, number)) if stage.decided else {}
    size = ENDPOINT_ROUNDS * task.concurrency if stage.cost == "endpoint" else TOGETHER
    worked = Worked()
    while batch := list(islice(records, size)):
        worked.add(_pass(stage, batch, decisions, task.concurrency, worked, number, trace))
    if stage.closing is not None:
        write_table(folder.features(stage.number, number), _table(worked.features, stage.closing))
    rows = ({"place": one.place, "row": one.row} for one in worked.kept)
    if stage.last:
        rows = (one.row for one in worked.kept)
        write_ids(folder.ids(stage.number, number), [one.uid for one in worked.kept])
    write_lines(folder.rows(stage.number, number, last=stage.last), rows)
    write_lines(folder.dropped(stage.number, number), map(_line, worked.asides))
    counted = {
        "rows": len(worked.kept),
        "operators": [tally.as_dict() for tally in worked.tallies.values()],
        "features": worked.features_times,
        "processor_seconds": clock.times()["processor_seconds"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    write_json(folder.done(stage.number, number), counted)
    return counted


@dataclass(slots=True)
class Worked:
    """What has become of a block so far."""

    taken: int = 0
    """Rows that were read."""
    kept: list[Record] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)
    features: list[dict[str, Any]] = field(default_factory=list)
    features_times: Counter[str] = field(default_factory=lambda: Counter(seconds=0, processor_seconds=0))

    def add(self, passage: Passage) -> None:
        self.kept += passage.records
        self.asides += passage.asides
        for tally in passage.tallies:
            if tally.name in self.tallies:
                self.tallies[tally.name].add(tally.as_dict())
            else:
                self.tallies[tally.name] = tally


def _pass(
    stage: Stage,
    batch: list[Record | Aside],
    decisions: dict[int, Verdict],
    concurrency: int,
    worked: Worked,
    block: int,
    trace: Trace | None,
) -> Passage:
    """A few records through the stage; their pictures are let go of behind it."""
    passage = Passage([one for one in batch if isinstance(one, Record)], trace=trace)
    records = passage.records
    if stage.number == 0:
        passage.received([one for one in batch if isinstance(one, Aside)])
    if stage.decided is not None:
        numbers = range(worked.taken, worked.taken + len(records))
        passage.apply(stage.decided.name, [decisions.get(number) for number in numbers])
    worked.taken += len(records)
    for operator in stage.operators:
        passage.through(operator, concurrency)
    if stage.closing is not None:
        clock = Clock()
        worked.features += _features(passage, stage.closing, (block << BLOCK_BITS) + len(worked.kept))
        worked.features_times.update(clock.times())
    for record in (*records, *passage.records):
        record.forget()
    return passage


def _input_records(block: Block, media_root: Path | None) -> Iterator[Record | Aside]:
    path = Path(block.path)
    for number, raw in raw_rows(block):
        uid, place = f"{block.name}:{number}", f"{path}, row {number}"
        try:
            row = json_row(raw)
            uid = row_uid(row, uid)
            yield Record({"id": uid} | row | {"id": uid}, uid, place, media_root)
        except (BadRow, RecursionError) as reason:
            text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else repr(raw)
            record = Record({"raw": text.encode("utf-8", "backslashreplace").decode()}, uid, place)
            yield Aside(record, INPUT, "error", "no row", str(reason))


def _stored_records(path: Path, media_root: Path | None) -> Iterator[Record]:
    for line in read_lines(path):
        yield Record(line["row"], line["row"]["id"], line["place"], media_root)


def _decisions(path: Path) -> dict[int, Verdict]:
    """Verdicts by the number of the row in its block."""
    return {line["index"]: from_json(line["verdict"]) for line in read_lines(path)} if path.is_file() else {}


def _features(passage: Passage, operator: Operator, first: int) -> list[dict[str, Any]]:
    """Of the records of a passage, which loses those that the operator cannot read; `first` is the first's position."""
    found = _read(operator, passage.records)
    if any(isinstance(one, Failed) for one in found):
        passage.apply(f"{operator.name} (features)", [one if isinstance(one, Failed) else None for one in found])
    read = [one for one in found if not isinstance(one, Failed)]
    return [{"position": position, **one} for position, one in enumerate(read, first) if one is not None]


def _read(operator: Operator, records: list[Record]) -> list[Any]:
    """Features of each record, None of those that it passes over, or `Failed`."""
    try:
        return operator.read(records)
    # As in `steps`: whatever is raised on a row is its error, so each is asked for alone.
    except Exception as error:
        problem = failed(error)
    return [problem] if len(records) == 1 else [one for record in records for one in _read(operator, [record])]


def _table(features: list[dict[str, Any]], operator: Operator) -> pa.Table:
    assert operator.declared.schema is not None
    return pa.Table.from_pylist(features, operator.declared.schema.insert(0, pa.field("position", pa.int64())))


def _line(aside: Aside) -> dict[str, Any]:
    record = aside.record
    return {
        "id": record.uid,
        "place": record.place,
        "operator": aside.operator,
        "kind": aside.kind,
        "reason": aside.reason,
        "detail": aside.detail,
        "row": record.row,
    }
