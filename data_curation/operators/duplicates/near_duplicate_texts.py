"""Rows whose text is almost that of an earlier one, by MinHash, as `pangu-rl export` finds them: the first is kept."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa

from data_curation.operators.duplicates._alike import dropped_as_alike
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Part, Record, Verdict
from pangu_rl.config.curate import Share
from rollout.export.near_duplicates import PERMUTATIONS, add_bands, band_width, compare, create_bands, signatures


def signature(record: Record, *, part: Part = "all") -> dict[str, Any] | None:
    """The row's id, its 128 min-hashes as bytes, and the pictures it shows, since one question may be asked of many
    pictures; None of a row without text."""
    text = record.text(part)
    if not text.strip():
        return None
    return {"uid": record.uid, "hashes": signatures([text])[0].tobytes(), "pictures": "\n".join(record.images)}


SCHEMA = pa.schema([("uid", pa.string()), ("hashes", pa.binary()), ("pictures", pa.string())])


@set_operator(features=signature, schema=SCHEMA)
def near_duplicate_texts(rows: Features, *, likeness: Share = 0.8, part: Part = "all") -> Iterator[tuple[int, Verdict]]:
    """Jaccard index of 5-character shingles of at least `likeness`; rows with pictures only if these are the same."""
    create_bands(rows)
    width, number = band_width(likeness), 0
    with TemporaryFile(dir=rows.scratch) as signed:
        for table in rows.tables("position, hashes, hash(pictures) AS scope"):
            hashes = np.frombuffer(b"".join(table["hashes"].to_pylist()), np.uint32).reshape(-1, PERMUTATIONS)
            signed.write(hashes.tobytes())
            add_bands(rows, number, table, hashes, width)
            number += len(hashes)
        signed.flush()
        if number:
            compare(rows, signed, number, likeness)
            yield from dropped_as_alike(rows, "near duplicate")
