"""`--dry-run N`: the first rows through all operators in a folder that goes away -> **what each did to which row**."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from data_curation.pipeline.blocks import Block, raw_rows
from data_curation.pipeline.counted import Summary, summed
from data_curation.pipeline.decide import decide
from data_curation.pipeline.folder import Folder
from data_curation.pipeline.record import Annotate, Drop, Edit, Keep, Record, Repeat, Split, Verdict
from data_curation.pipeline.run import Plan, planned
from data_curation.pipeline.steps import Failed
from data_curation.pipeline.work import StageTask, work_block
from pangu_rl.config.curate import CurateConfig

CHARS = 160


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to one row."""

    operator: str
    uid: str
    what: str


def dry_run(config: CurateConfig, rows: int) -> tuple[Summary, list[Step]]:
    """Nothing is written to the output. Set operators see these rows alone.

    Raises:
        UserError: as `run_pipeline`.
    """
    plan = planned(config)
    steps: list[Step] = []

    def trace(operator: str, record: Record, verdict: Verdict | Failed) -> None:
        steps.append(Step(operator, record.uid, said(verdict, record)))

    with TemporaryDirectory(prefix="pangu_rl_curate_") as scratch:
        folder = Folder(Path(scratch))
        task = StageTask(
            operators=tuple(config.operators),
            stage=0,
            output=folder.root,
            media_root=plan.media_root,
            blocks=tuple(enumerate(_first_blocks(plan, rows))),
            concurrency=config.workers.concurrency,
        )
        for stage in plan.stages:
            folder.prepare(stage.number)
            for number, block in task.blocks:
                work_block(replace(task, stage=stage.number), stage, number, block, trace)
            if stage.closing is not None:
                decide(folder, stage.number, stage.closing)
        summary = summed(folder, plan.stages, len(task.blocks))
    return replace(summary, output=""), steps


def said(verdict: Verdict | Failed, record: Record) -> str:
    """In one line."""
    match verdict:
        case Failed(reason, detail):
            return f"error: {reason}: {detail}"
        case Drop(reason, detail):
            return f"dropped: {reason}" + (f": {detail}" if detail else "")
        case Edit(row, what):
            changed = [key for key in {**record.row, **row} if record.row.get(key) != row.get(key)]
            shown = ", ".join(f"{key} {_short(record.row.get(key))} -> {_short(row.get(key))}" for key in changed)
            return f"edited: {what}: {shown}"
        case Annotate(notes):
            return f"noted: {_short(dict(notes))}"
        case Repeat(times):
            return f"repeated {times} times"
        case Split(rows, what):
            return f"became {len(rows)} rows: {what}: the first is {_short(rows[0])}"
        case Keep():
            return "kept: " + ", ".join(f"{name} {value:.4g}" for name, value in verdict.values.items())
    return "kept"


def _first_blocks(plan: Plan, rows: int) -> Iterator[Block]:
    """Blocks that hold the first rows of the input and no others."""
    for file in plan.files:
        for block in file.blocks:
            if rows <= 0:
                return
            taken = sum(1 for _ in islice(raw_rows(block), rows))
            rows -= taken
            yield replace(block, limit=taken)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= CHARS else text[:CHARS] + "..."
