"""Input files -> **blocks**: the part of one file that a worker reads at once and that becomes one shard of output.

A first pass over each file finds its digest, its rows and where its blocks begin; nothing of it is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash

from data_curation.pipeline.parquet_blocks import row_ranges, rows_between
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.data.files.webdataset import samples, shard_row
from pangu_rl.data.index.files import PARQUET, TAR, content_digest
from pangu_rl.errors import DataError

TAR_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes of JSONL that hold whole lines, rows of Parquet, or samples of a tar: `begin` to `end`."""

    path: str
    name: str
    """Of its file, as `InputFile` has it."""
    begin: int
    end: int
    first: int
    """Number of its first row in the file, from 1."""
    limit: int | None = None
    """Of rows that are read of it; None reads all."""


@dataclass(frozen=True, slots=True)
class InputFile:
    path: str
    name: str
    """Its stem; of the second file of one stem `stem~2`. Ids of rows that have none begin with it."""
    digest: str
    """xxh3-128, hex; of a tar that of rows and places of pictures."""
    rows: int
    blocks: tuple[Block, ...]

    def identity(self) -> dict[str, Any]:
        return {"name": self.name + Path(self.path).suffix, "digest": self.digest, "rows": self.rows}


def examine_all(paths: Sequence[Path], block_bytes: int) -> tuple[InputFile, ...]:
    """
    Raises:
        DataError: a file that cannot be read or is not what its name says; no row in any.
    """
    files: dict[str, InputFile] = {}
    for path in paths:
        name, number = path.stem, 1
        while name in files:
            number += 1
            name = f"{path.stem}~{number}"
        files[name] = _examine(path, name, block_bytes)
    if not any(file.rows for file in files.values()):
        raise DataError(f"{paths[0]}: no row in the input")
    return tuple(files.values())


def _examine(path: Path, name: str, block_bytes: int) -> InputFile:
    if path.suffix == PARQUET:
        return _parquet(path, name, block_bytes)
    if path.suffix == TAR:
        rows = len(samples(path))
        blocks = [Block(str(path), name, at, min(at + TAR_ROWS, rows), at + 1) for at in range(0, rows, TAR_ROWS)]
        return InputFile(str(path), name, content_digest(path), rows, tuple(blocks))
    return _lines(path, name, block_bytes)


def raw_rows(block: Block) -> Iterator[tuple[int, Row | bytes]]:
    """Each row's number in its file, from 1, and the row; a line of JSONL is not parsed yet, blank ones are no rows."""
    path = Path(block.path)
    if path.suffix == PARQUET:
        rows = rows_between(path, block.begin, block.end)
    elif path.suffix == TAR:
        rows = ((number + 1, shard_row(path, number)) for number in range(block.begin, block.end))
    else:
        rows = _line_rows(block, path)
    return islice(rows, block.limit)


def _line_rows(block: Block, path: Path) -> Iterator[tuple[int, bytes]]:
    number = block.first
    with path.open("rb") as file:
        file.seek(block.begin)
        while file.tell() < block.end:
            line = file.readline()
            if line.strip():
                yield number, line
            number += 1


def _lines(path: Path, name: str, block_bytes: int) -> InputFile:
    digest, blocks = xxhash.xxh3_128(), []
    begin = at = rows = lines = 0
    first = 1
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            at += len(line)
            lines += 1
            rows += bool(line.strip())
            if at - begin >= block_bytes:
                blocks.append(Block(str(path), name, begin, at, first))
                begin, first = at, lines + 1
    if at > begin:
        blocks.append(Block(str(path), name, begin, at, first))
    return InputFile(str(path), name, digest.hexdigest(), rows, tuple(blocks))


def _parquet(path: Path, name: str, block_bytes: int) -> InputFile:
    ranges = row_ranges(path, block_bytes)
    blocks = [Block(str(path), name, begin, end, begin + 1) for begin, end in ranges]
    return InputFile(str(path), name, content_digest(path), ranges[-1][1] if ranges else 0, tuple(blocks))
