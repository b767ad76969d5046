"""Rows that show a picture which an earlier row shows too, perhaps scaled, compressed or retouched: the first is kept.

A difference hash (D. Krawetz, "Kind of like that", 2013) of 16 x 16 signs. Hashes that differ in fewer bits than there
are bands have one band in common, so bands of 16 bits find every pair up to 15 differing bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from data_curation.operators.duplicates._alike import dropped_as_alike
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Record, Verdict

SIDE = 16
BITS = SIDE * SIDE
BANDS = 16
_TEXT = 2000
"""Characters of what is asked that tell two questions on one picture apart."""


def picture_hash(record: Record, *, per_question: bool) -> dict[str, Any] | None:
    """The row's id, the hashes of its pictures in a row, and what is asked of them; None of a row without pictures."""
    if not record.images:
        return None
    hashes = b"".join(difference_hash(record.picture(path)).tobytes() for path in record.images)
    question = record.text()[:_TEXT] if per_question else ""
    return {"uid": record.uid, "hashes": hashes, "question": question}


@set_operator(
    features=picture_hash, schema=pa.schema([("uid", pa.string()), ("hashes", pa.binary()), ("question", pa.string())])
)
def near_duplicate_pictures(
    rows: Features, *, most_bits: Annotated[int, Field(ge=0, lt=BANDS)] = 10, per_question: bool = True
) -> Iterator[tuple[int, Verdict]]:
    """At most `most_bits` of 256 differ, in each picture of the row. `per_question` leaves rows alone whose texts
    differ: set it to false where a picture shall be seen once, whatever is asked."""
    bands = ", ".join(f"substr(hex(hashes), {4 * band + 1}, 4)" for band in range(BANDS))
    rows.connection.execute(f"""
        CREATE TABLE hashed AS SELECT row_number() OVER (ORDER BY position) - 1 AS number, position, hashes,
            hash(question, octet_length(hashes)) AS scope, [{bands}] AS bands FROM features
    """)
    rows.connection.execute("CREATE TABLE alike (position BIGINT, first BIGINT, likeness FLOAT)")
    pairs = rows.connection.cursor().sql("""
        WITH placed AS (SELECT number, scope, unnest(bands) AS band, generate_subscripts(bands, 1) AS slot FROM hashed),
        firsts AS (SELECT scope, slot, band, min(number) AS first FROM placed GROUP BY ALL HAVING count(*) > 1),
        pairs AS (SELECT DISTINCT number, first FROM placed JOIN firsts USING (scope, slot, band) WHERE number > first)
        SELECT h.position, f.number AS first, h.hashes AS one, f.hashes AS other
        FROM pairs p JOIN hashed h ON p.number = h.number JOIN hashed f ON p.first = f.number
    """)
    for batch in pairs.to_arrow_reader(4096):
        likeness = np.array(
            [likeness_of(*pair) for pair in zip(*(batch[name].to_pylist() for name in ("one", "other")))]
        )
        near = likeness >= 1 - most_bits / BITS
        found = pa.table({"position": batch["position"], "first": batch["first"], "likeness": likeness}).filter(near)
        rows.connection.register("found", found)
        rows.connection.execute("INSERT INTO alike SELECT * FROM found")
        rows.connection.unregister("found")
    yield from dropped_as_alike(rows, "near-duplicate picture")


def difference_hash(picture: Image.Image) -> np.ndarray:
    """uint8 [32]: for each of 16 x 16 places whether the picture is lighter to its right."""
    grey = np.asarray(picture.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.int16)
    return np.packbits(np.diff(grey, axis=1) > 0)


def likeness_of(one: bytes, other: bytes) -> float:
    """Share of equal bits, of the pair of pictures that differ most."""
    different = np.bitwise_xor(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)).reshape(-1, BITS // 8)
    return 1 - int(np.bitwise_count(different).sum(axis=1).max()) / BITS
