"""What the end of a shard says of it, read once of each state of the file, so that a store of many opens at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from rollout.schema import checked_metadata

KEPT = 1 << 14
"""Footers in memory; of a longer store some are read again."""


@dataclass(frozen=True, slots=True)
class Footer:
    """Of a shard that this version can read."""

    rows: int
    schema: pa.Schema
    """Without metadata."""


def footer(path: Path) -> Footer:
    """
    Raises:
        DataError: as `checked_metadata`.
    """
    return _read(path, identity(path))


def identity(path: Path) -> tuple[int, ...]:
    """What changes when the file is replaced; empty of one that is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=KEPT)
def _read(path: Path, _: tuple[int, ...]) -> Footer:
    metadata = checked_metadata(path)
    return Footer(metadata.num_rows, metadata.schema.to_arrow_schema().remove_metadata())
