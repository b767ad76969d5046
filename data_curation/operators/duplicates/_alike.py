"""The end of a search for near-duplicates: the table `alike` -> verdicts that name the row that is kept."""

from __future__ import annotations

from collections.abc import Iterator

from data_curation.pipeline.operator import Features
from data_curation.pipeline.record import Drop, Verdict


def dropped_as_alike(rows: Features, reason: str) -> Iterator[tuple[int, Verdict]]:
    """`alike` has position, number of the first row like it among the features, and likeness.

    Of a row that is like several first ones the nearest is named, of equals the earliest.
    """
    rows.connection.execute(
        "CREATE TABLE named AS SELECT row_number() OVER (ORDER BY position) - 1 AS number, position, uid FROM features"
    )
    found = rows.connection.cursor().sql("""
        SELECT a.position, first(n.uid ORDER BY a.likeness DESC, a.first) AS uid, max(a.likeness) AS likeness
        FROM alike a JOIN named n ON a.first = n.number GROUP BY a.position ORDER BY a.position
    """)
    for batch in found.to_arrow_reader(4096):
        for row in batch.to_pylist():
            yield row["position"], Drop(reason, f"like {row['uid']}", {"likeness": row["likeness"]})
