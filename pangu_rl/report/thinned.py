"""metrics rows -> **as many rows as a picture can show**."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

MAX_POINTS = 300

Rows = Sequence[Mapping[str, Any]]


def thinned(rows: Rows, limit: int = MAX_POINTS) -> list[dict[str, Any]]:
    """At most `limit` rows: the means of as many steps in a row as that takes, under the last one's number."""
    width = -(-len(rows) // limit) or 1
    return [_mean(rows[start : start + width]) for start in range(0, len(rows), width)]


def _mean(rows: Rows) -> dict[str, Any]:
    names = {name for row in rows for name in row if name != "step"}
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in sorted(names)}
    means = {name: fmean(values) if values else None for name, values in found.items()}
    return {"step": rows[-1]["step"], **means}
