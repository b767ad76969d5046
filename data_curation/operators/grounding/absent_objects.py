"""Names of things that are not in the picture, to ask for: negatives of grounding (openPangu-VL, section 3.1).

They are drawn from the names of all rows' objects, as often as these stand there, so that a name alone does not tell
whether the thing is there. A row's own objects must be all that it shows of these names.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
from pydantic import PositiveInt

from data_curation.operators.balance._drawn import drawn
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Annotate, Record, Verdict

TRIES = 20
"""Draws for each name that is wanted: a picture may show nearly all that there is."""


def names_of(record: Record, *, seed: int) -> dict[str, Any] | None:
    """None of a row without named objects."""
    names = sorted({str(one["name"]).strip() for one in record.row.get("objects") or () if one.get("name")})
    return {"names": names, "drawn": drawn(record.uid, seed)} if names else None


@set_operator(features=names_of, schema=pa.schema([("names", pa.list_(pa.string())), ("drawn", pa.int64())]))
def absent_objects(rows: Features, *, count: PositiveInt = 1, seed: int = 0) -> Iterator[tuple[int, Verdict]]:
    """Notes `count` names, fewer where the picture shows nearly all. A name that shares a word with one of the row is
    not drawn: a `dog` may well be the `brown dog` that is there."""
    counted = rows.connection.execute(
        "SELECT name, count(*) FROM (SELECT unnest(names) AS name FROM features) GROUP BY name ORDER BY name"
    ).fetchall()
    names, ends = [name for name, _ in counted], list(accumulate(times for _, times in counted))
    for table in rows.tables():
        for row in table.to_pylist():
            draw = random.Random(row["drawn"])
            absent = _drawn_names(draw, names, ends, row["names"], count)
            if absent:
                yield row["position"], Annotate({"names": absent})


def _drawn_names(
    draw: random.Random, names: Sequence[str], ends: Sequence[int], shown: Sequence[str], count: int
) -> list[str]:
    taken = {word for name in shown for word in _words(name)}
    found: list[str] = []
    for _ in range(TRIES * count):
        name = names[bisect(ends, draw.randrange(ends[-1]))]
        if not taken & _words(name):
            found.append(name)
            taken |= _words(name)
        if len(found) == count:
            break
    return found


def _words(name: str) -> set[str]:
    return set(name.casefold().split())
