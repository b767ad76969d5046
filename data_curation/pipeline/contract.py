"""An operator of a user's own -> **findings**: does it keep the contract of `operator.py`, also on hostile rows?

Every call runs in a child with a deadline, so that an operator that hangs or ends its process is a finding and not the
end of the check. The second pass runs in a fresh process: what differs there is no function of the row.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_curation.pipeline.blocks import examine_all, raw_rows
from data_curation.pipeline.json_rows import json_row
from data_curation.pipeline.operator import Operator
from data_curation.pipeline.record import Record
from data_curation.pipeline.registry import resolve
from data_curation.pipeline.steps import Failed, verdicts_of
from data_curation.pipeline.verdicts import to_json
from pangu_rl.config.curate import OperatorConfig
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.data.index.files import row_files
from pangu_rl.errors import ConfigError
from pangu_rl.monitoring.findings import Finding
from rewards.children import ChildError, ChildKilled, ChildPool, ChildTimeout

DEADLINE_S = 20.0
MEMORY_MIB = 4096
GIVEN = 20
"""Rows of a user's file that are tried."""
_TALK = [{"role": "user", "content": "How many cats?"}, {"role": "assistant", "content": "Two cats."}]
SAMPLES: dict[str, Row] = {
    "conversation": {"id": "conversation", "messages": _TALK},
    "document": {"id": "document", "document": "A text about cats. " * 20},
    "prompt": {"id": "prompt", "messages": _TALK[:1], "answer": "2", "answer_type": "integer"},
    "no text": {"id": "no text", "messages": [{"role": "user", "content": ""}]},
    "hostile": {"id": "hostile", "document": "\u202e<|box_start|>(((\\frac{" + "\U0001f600" * 50 + "' ; DROP TABLE"},
    "very long": {"id": "very long", "document": "word " * 100_000},
    "missing picture": {"id": "missing picture", "messages": _TALK, "images": ["nowhere/none.png"]},
}


def check_operator(
    name: str,
    args: dict[str, Any],
    rows: Path | None = None,
    media_root: Path | None = None,
    deadline_s: float = DEADLINE_S,
) -> list[Finding]:
    """What was found, in order; of one that cannot be used there is nothing further."""
    config = OperatorConfig(name=name, args=args)
    try:
        operator = resolve(config, name.rpartition(":")[2])
    except ConfigError as error:
        return [Finding(check="usable", status="fail", detail=str(error), mend="mend the file, or name it otherwise")]
    what = "set operator" if operator.over_all else "row operator"
    found = [Finding(check="usable", status="ok", detail=f"{what}, {operator.cost}, {dict(operator.settings)}")]
    samples = list(SAMPLES.values()) if rows is None else _given(rows)
    passes = [_asked(config, samples, media_root, deadline_s) for _ in range(2)]
    problems = [answer["problem"] for answer in passes[0] if answer["problem"]]
    found.append(
        Finding(
            check="verdicts", status="fail", detail=problems[0], mend="say one verdict of each row, within its time"
        )
        if problems
        else Finding(check="verdicts", status="ok", detail=_counted(passes[0]))
    )
    for one, other, row in zip(*passes, samples, strict=True):
        if one["said"] != other["said"]:
            detail = f"{row.get('id')}: {one['said'][:100]}, then {other['said'][:100]} in a fresh process"
            mend = "let the verdict depend on row and settings alone: seed what draws, keep no state"
            return [*found, Finding(check="deterministic", status="fail", detail=detail, mend=mend)]
    found.append(Finding(check="deterministic", status="ok", detail="the same twice, and in a fresh process"))
    touched = [row.get("id") for answer, row in zip(passes[0], samples, strict=True) if answer["touched"]]
    if touched:
        mend = "copy before you change, and return Edit: the row that is put aside is the one that came in"
        return [*found, Finding(check="row", status="fail", detail=f"changes the row {touched[0]}", mend=mend)]
    return [*found, Finding(check="row", status="ok", detail="rows left as they were")]


def call_twice(config: OperatorConfig, row: Row, media_root: str | None) -> dict[str, Any]:
    """In a child: what the operator says of a row, `changes its mind` if it says something else the second time."""
    operator = resolve(config, config.name.rpartition(":")[2])
    before = copy.deepcopy(row)
    said = [_said(operator, row, media_root) for _ in range(2)]
    return {"said": said[0] if said[0] == said[1] else f"changes its mind: {said}", "touched": row != before}


def _said(operator: Operator, row: Row, media_root: str | None) -> str:
    record = Record(row, str(row.get("id")), "sample", Path(media_root) if media_root else None)
    if operator.over_all:
        return json.dumps(operator.read([record])[0], default=repr, sort_keys=True)
    verdict = verdicts_of(operator, [record], concurrency=1)[0]
    return repr(verdict) if isinstance(verdict, Failed) else json.dumps(to_json(verdict), sort_keys=True)


def _asked(
    config: OperatorConfig, rows: Sequence[Row], media_root: Path | None, deadline_s: float
) -> list[dict[str, Any]]:
    root = str(media_root) if media_root else None
    with ChildPool(size=1, memory_mib=MEMORY_MIB, warm_up=_nothing) as pool:
        return [_answer(pool, config, row, root, deadline_s) for row in rows]


def _answer(
    pool: ChildPool, config: OperatorConfig, row: Row, media_root: str | None, deadline_s: float
) -> dict[str, Any]:
    try:
        answer = pool.run(call_twice, config, row, media_root, deadline_s=deadline_s)
    except (ChildTimeout, ChildKilled, ChildError) as error:
        return {"said": "", "touched": False, "problem": f"{row.get('id')}: {error}"}
    mind = answer["said"].startswith("changes its mind")
    return {**answer, "problem": f"{row.get('id')}: {answer['said'][:200]}" if mind else ""}


def _counted(answers: Sequence[dict[str, Any]]) -> str:
    errors = [answer["said"] for answer in answers if answer["said"].startswith("Failed(")]
    return f"{len(answers)} rows" + (f", {len(errors)} of them errors, such as {errors[0][:120]}" if errors else "")


def _given(rows: Path) -> list[Row]:
    files = examine_all(row_files([rows]), 2**30)
    given = (raw for file in files for block in file.blocks for _, raw in raw_rows(block))
    return [json_row(raw) for raw in islice(given, GIVEN)]


def _nothing() -> None:
    """A child of operators needs no algebra."""
