"""Rows whose text is almost that of an earlier one, by MinHash, as `pangu-rl export` finds them: the first is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa

from data_curation.operators.duplicates._alike import dropped_as_alike
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Part, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.media.columns import video_paths
from rollout.export.near_duplicates import PERMUTATIONS, Signed, signatures


def signature(records: Sequence[Record], *, part: Part = "all") -> list[dict[str, Any] | None]:
    """Each row's id, its 128 min-hashes as bytes, and the pictures and videos it shows, since one question may be asked
    of many; None of a row without text."""
    texts = [record.text(part) for record in records]
    hashes = iter(signatures(spoken) if (spoken := [text for text in texts if text.strip()]) else ())
    return [
        {"uid": record.uid, "hashes": next(hashes).tobytes(), "shown": [*record.images, *video_paths(record.row)]}
        if text.strip()
        else None
        for record, text in zip(records, texts, strict=True)
    ]


SCHEMA = pa.schema([("uid", pa.string()), ("hashes", pa.binary()), ("shown", pa.list_(pa.string()))])


@set_operator(features=signature, schema=SCHEMA, batch=32)
def near_duplicate_texts(rows: Features, *, likeness: Share = 0.8, part: Part = "all") -> Iterator[tuple[int, Verdict]]:
    """Jaccard index of 5-character shingles of at least `likeness`; rows with pictures or videos only if
    these are the same."""
    with TemporaryFile(dir=rows.scratch) as file:
        signed = Signed(rows, file, rows.count(), likeness)
        for table in rows.tables("position, hashes, hash(shown) AS scope"):
            hashes = np.frombuffer(b"".join(table["hashes"].to_pylist()), np.uint32).reshape(-1, PERMUTATIONS)
            signed.add(table, hashes)
        signed.compare()
    yield from dropped_as_alike(rows, "near duplicate")
