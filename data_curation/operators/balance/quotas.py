"""At most so many rows of each domain; which of them is drawn by their ids, so a row stays if others come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pydantic import NonNegativeInt

from data_curation.operators.balance._drawn import drawn, label_of
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Drop, Record, Verdict


def domain(record: Record, *, by: str, seed: int) -> dict[str, Any]:
    return {"label": label_of(record, by), "drawn": drawn(record.uid, seed)}


SCHEMA = pa.schema([("label", pa.string()), ("drawn", pa.int64())])


@set_operator(features=domain, schema=SCHEMA)
def quotas(
    rows: Features,
    *,
    by: str = "source",
    most: dict[str, NonNegativeInt],
    others: NonNegativeInt | None = None,
    seed: int = 0,
) -> Iterator[tuple[int, Verdict]]:
    """`by` is a dotted path in the row; a domain that `most` does not name has `others`, null for all of its rows."""
    rows.connection.execute("CREATE TABLE quotas (label VARCHAR, most BIGINT)")
    if most:
        rows.connection.executemany("INSERT INTO quotas VALUES (?, ?)", list(most.items()))
    limit = "NULL" if others is None else str(others)
    over = rows.connection.cursor().sql(f"""
        SELECT position, label FROM (
            SELECT position, label, row_number() OVER (PARTITION BY label ORDER BY drawn, position) AS place
            FROM features
        ) LEFT JOIN quotas USING (label) WHERE place > coalesce(most, {limit}) ORDER BY position
    """)
    for batch in over.to_arrow_reader(4096):
        for row in batch.to_pylist():
            yield row["position"], Drop("over its quota", row["label"])
