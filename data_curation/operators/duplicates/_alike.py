"""The end of a search for near-duplicates: the table `alike` -> verdicts that name the row that is kept."""

from __future__ import annotations

from collections.abc import Iterator

from data_curation.pipeline.operator import Features
from data_curation.pipeline.record import Drop, Verdict


def dropped_as_alike(rows: Features, reason: str) -> Iterator[tuple[int, Verdict]]:
    """`alike` has position, that of an earlier row like it, and likeness.

    Of a row that is like several first ones the nearest is named, of equals the earliest.
    """
    found = rows.connection.cursor().sql("""
        SELECT a.position, first(f.uid ORDER BY a.likeness DESC, a.first) AS uid, max(a.likeness) AS likeness
        FROM alike a JOIN features f ON a.first = f.position GROUP BY a.position ORDER BY a.position
    """)
    for batch in found.to_arrow_reader(4096):
        for row in batch.to_pylist():
            yield row["position"], Drop(reason, f"like {row['uid']}", {"likeness": row["likeness"]})
