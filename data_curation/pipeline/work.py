"""One block of a stage, in whatever process: read, apply what was decided, pass the operators, write, count.

The last thing written says that the block is done. A worker that is killed leaves nothing half: the block is worked
anew, to the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_curation.pipeline.blocks import Block, raw_rows
from data_curation.pipeline.folder import Folder, read_lines, write_json, write_lines, write_table
from data_curation.pipeline.operator import Operator
from data_curation.pipeline.record import Record, Verdict
from data_curation.pipeline.registry import resolve_all
from data_curation.pipeline.stages import Stage, stages_of
from data_curation.pipeline.steps import Aside, Failed, Passage, Tally, Trace, failed
from data_curation.pipeline.verdicts import from_json
from pangu_rl.config.curate import OperatorConfig
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.rows import checked_row, row_uid

INPUT = "input"
"""The operator that rows are put aside by which are none."""
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
    folder = Folder(task.output)
    passage = Passage([], trace=trace)
    if stage.number == 0:
        _read_input(passage, block, task.media_root)
    else:
        _read_rows(passage, folder.rows(stage.number - 1, number, last=False), task.media_root)
    if stage.decided is not None:
        _apply_decisions(passage, stage.decided, folder.decisions(stage.number - 1, number))
    for operator in stage.operators:
        passage.through(operator, task.concurrency)
    if stage.closing is not None:
        write_table(folder.features(stage.number, number), _features(passage, stage.closing, number))
    rows = ({"place": one.place, "row": one.row} for one in passage.records)
    if stage.last:
        rows = (one.row for one in passage.records)
    write_lines(folder.rows(stage.number, number, last=stage.last), rows)
    write_lines(folder.dropped(stage.number, number), map(_line, passage.asides))
    counted = {"rows": len(passage.records), "operators": [tally.as_dict() for tally in passage.tallies]}
    write_json(folder.done(stage.number, number), counted)
    return counted


def _read_input(passage: Passage, block: Block, media_root: Path | None) -> None:
    tally = Tally(INPUT)
    path = Path(block.path)
    started = time.perf_counter()
    for number, raw in raw_rows(block):
        uid, place = f"{path.stem}:{number}", f"{path}, row {number}"
        tally.rows_in += 1
        try:
            row = checked_row(raw)
            uid = row_uid(row, uid)
            json.dumps(row)
            passage.records.append(Record({"id": uid} | row | {"id": uid}, uid, place, media_root))
        # A row of Parquet may hold what JSON cannot: TypeError.
        except (BadRow, TypeError, ValueError) as reason:
            text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else repr(raw)
            record = Record({"raw": text.encode("utf-8", "backslashreplace").decode()}, uid, place)
            tally.errors["no row"] += 1
            passage.asides.append(Aside(record, INPUT, "error", "no row", str(reason)))
            if passage.trace:
                passage.trace(INPUT, record, Failed("no row", str(reason)))
    tally.rows_out, tally.seconds = len(passage.records), time.perf_counter() - started
    passage.tallies.append(tally)


def _read_rows(passage: Passage, path: Path, media_root: Path | None) -> None:
    for line in read_lines(path):
        passage.records.append(Record(line["row"], line["row"]["id"], line["place"], media_root))


def _apply_decisions(passage: Passage, operator: Operator, path: Path) -> None:
    verdicts: list[Verdict | Failed] = [None] * len(passage.records)
    for line in read_lines(path) if path.is_file() else ():
        verdicts[line["index"]] = from_json(line["verdict"])
    passage.apply(operator.name, verdicts)


def _features(passage: Passage, operator: Operator, block: int) -> pa.Table:
    """Of the records of a passage, which loses those that the operator cannot read."""
    schema = operator.declared.schema
    assert schema is not None
    read, failures, verdicts = [], 0, []
    for record in passage.records:
        try:
            found = operator.feature(record)
        # As in `steps`: whatever is raised on a row is its error.
        except Exception as error:
            verdicts.append(failed(error))
            failures += 1
            continue
        verdicts.append(None)
        if found is not None:
            read.append({"position": (block << BLOCK_BITS) + len(verdicts) - 1 - failures, **found})
    if failures:
        passage.apply(operator.name, verdicts).name = f"{operator.name} (features)"
    return pa.Table.from_pylist(read, schema.insert(0, pa.field("position", pa.int64())))


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
