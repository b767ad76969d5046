"""WebDataset shards as rows: the files of a plain tar that share a name up to its first dot are one sample.

`0001.json` is the row; its pictures are `0001.jpg`, or `0001.0.png`, `0001.1.png` and so on, in the tar's order, unless
the row's own `images` names them; likewise its videos, `0001.mp4`. The rows name files as `shard.tar/0001.jpg`:
`data.media_root` is the folder that the shards lie in, and nothing is unpacked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from pretrain.processing.shards import KEPT, members, read_member

MEDIA = {
    "images": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"),
    "videos": (".mp4", ".mov", ".mkv", ".webm", ".avi"),
}
"""Column -> how names of its files end."""
ROW = ".json"
MAX_ROW_BYTES = 16 * 2**20
Sample = tuple[str, ...]
"""Names in the tar: of the row, empty if there is none, then of the pictures and videos."""


def shard_rows(shard: Path) -> Iterator[dict[str, Any] | bytes]:
    """Each sample's row; its bytes as they are, to be refused as no JSON, where it has none.

    Raises:
        DataError: no plain tar, or a row of more than `MAX_ROW_BYTES`.
    """
    return (shard_row(shard, number) for number in range(len(samples(shard))))


def shard_row(shard: Path, number: int) -> dict[str, Any] | bytes:
    """The row of one sample, by its number from 0; raises as `shard_rows`."""
    row_name, *media = samples(shard)[number]
    content = read_member(shard, row_name, MAX_ROW_BYTES) if row_name else b""
    return _with_media(content, shard, media)


def samples(shard: Path) -> tuple[Sample, ...]:
    """The samples of `shard`, in its order.

    Raises:
        DataError: no plain tar.
    """
    status = shard.stat()
    return _samples(shard, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=KEPT)
def _samples(shard: Path, _changed: int, _size: int) -> tuple[Sample, ...]:
    return tuple(_sample(key, list(group)) for key, group in groupby(members(shard), _key))


def _sample(key: str, names: list[str]) -> Sample:
    row_name = key + ROW if key + ROW in names else ""
    return (row_name, *(name for name in names if name.lower().endswith(sum(MEDIA.values(), ()))))


def _key(name: str) -> str:
    """The name up to the first dot of its last part: `a.b/0001.0.png` -> `a.b/0001`."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _with_media(content: bytes, shard: Path, found: list[str]) -> dict[str, Any] | bytes:
    try:
        row = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(row, dict):
        return content
    for column, suffixes in MEDIA.items():
        named = row.get(column)
        if named is None:
            named = [name for name in found if name.lower().endswith(suffixes)]
        if isinstance(named, list) and (named or column == "images"):
            row[column] = [f"{shard.name}/{name}" if isinstance(name, str) else name for name in named]
    return row
