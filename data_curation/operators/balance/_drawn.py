"""What operators of balance share: the label of a row, and an order of rows that is drawn once and for all."""

from __future__ import annotations

from typing import Any

import xxhash

from data_curation.pipeline.record import Record
from pangu_rl.data.fields.bad_row import BadRow


def label_of(record: Record, by: str) -> str:
    """The value at a dotted path in the row, such as `source` or `curation.language.language`; empty without one.

    Raises:
        BadRow: it is a list or an object.
    """
    value: Any = record.row
    for key in by.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict | list):
        raise BadRow(f"{by} is a {type(value).__name__}, no label")
    return "" if value is None else str(value)


def drawn(uid: str, seed: int) -> int:
    """A number below 2**63 that depends on the row's id and the seed alone."""
    return xxhash.xxh3_64_intdigest(uid.encode("utf-8", "replace"), seed) >> 1


def drawn_share(uid: str, seed: int) -> float:
    """The same, from 0 to below 1."""
    return drawn(uid, seed) / 2**63
