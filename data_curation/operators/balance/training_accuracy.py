"""Accuracy on rows that a model was trained on, against held-out ones of the same data set (openPangu-VL, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pydantic import NonNegativeFloat

from data_curation.operators.balance._drawn import label_of
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Annotate, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import BadRow


def graded(record: Record, *, by: str, trained: str, score: str) -> dict[str, Any] | None:
    """None of a row that was not graded."""
    told, value = label_of(record, trained), label_of(record, score)
    if not value:
        return None
    if told not in ("True", "False"):
        raise BadRow(f"{trained} is {told!r}, not true or false: was the row trained on?")
    try:
        number = float({"True": "1", "False": "0"}.get(value, value))
    except ValueError:
        raise BadRow(f"{score} is {value!r}, no number and neither true nor false") from None
    return {"label": label_of(record, by), "trained": told == "True", "score": number}


SCHEMA = pa.schema([("label", pa.string()), ("trained", pa.bool_()), ("score", pa.float64())])


@set_operator(features=graded, schema=SCHEMA)
def training_accuracy(
    rows: Features,
    *,
    by: str = "source",
    trained: str = "trained",
    score: str = "score",
    most: Share = 0.1,
    errors: NonNegativeFloat = 2.0,
) -> Iterator[tuple[int, Verdict]]:
    """Of rows that a model has answered: `trained`, true or false, and `score`, from 0 to 1 or true or false. Notes for
    each row, and in a table of the report, what was found of its data set (`by`): accuracy on both sides, their
    difference, its standard error, and a `label`: `memorised` where trained rows are better by more than `most` and by
    more than `errors` standard errors, `not learnt` where they are worse so, `level` in between, `one side` where the
    other is missing. `label_shares` by `curation.training_accuracy.label` then has more or less of them."""
    found = rows.connection.execute("""
        SELECT label, trained, avg(score), count(*), var_pop(score) FROM features GROUP BY label, trained
    """).fetchall()
    sides = {(label, told): (mean, count, variance) for label, told, mean, count, variance in found}
    notes = {label: gap(sides.get((label, True)), sides.get((label, False)), most, errors) for label, *_ in found}
    counts = {(label, told): count for label, told, _, count, _ in found}
    for label in sorted(notes):
        sizes = {"rows trained": counts.get((label, True), 0), "rows held out": counts.get((label, False), 0)}
        rows.told.append({"data set": label, **sizes, **notes[label]})
    for table in rows.tables("position, label"):
        for position, label in zip(table["position"].to_pylist(), table["label"].to_pylist(), strict=True):
            yield position, Annotate(notes[label])


Side = tuple[float, int, float]
"""Mean, rows and variance."""


def gap(trained: Side | None, control: Side | None, most: float, errors: float) -> dict[str, Any]:
    if trained is None or control is None:
        return {"label": "one side"}
    difference = trained[0] - control[0]
    error = math.sqrt(trained[2] / trained[1] + control[2] / control[1])
    label = "level"
    if abs(difference) > most and abs(difference) > errors * error:
        label = "memorised" if difference > 0 else "not learnt"
    numbers = {"trained": trained[0], "control": control[0], "difference": difference, "error": error}
    return {"label": label} | {name: round(number, 4) for name, number in numbers.items()}
