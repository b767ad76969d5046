"""Which files hold rows, of which kind they are, in which ranges they are scanned, and what their content is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from pangu_rl.data.arrow.parquet import parquet_file
from pangu_rl.data.files.rows import KINDS, LINES, PARQUET, TAR, files_of_folder, is_json_array
from pangu_rl.data.files.webdataset import samples, shard_rows
from pangu_rl.errors import DataError
from pretrain.processing.shards import members

PIECE = 64 * 2**20
"""Bytes of a file that one worker scans, or digests, at once."""
GROUP_ROWS = 2**22
"""Rows of Parquet that one worker scans at once: at least a row group."""
EDGE = 64 * 1024
BLOCK = 2**20
"""Divides a piece."""


@dataclass(frozen=True, slots=True)
class Range:
    """What one worker scans and one shard lists: bytes of a JSONL file, row groups of a Parquet file, samples of a
    tar."""

    file: int
    path: Path
    begin: int
    end: int
    first: int
    """Rows of the file before the range, as messages number them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What reading a piece of a file tells."""

    digest: str
    """xxh3-128; of a tar, of the rows and of where its pictures lie: these are too many to be read."""
    lines: int
    """Newlines."""
    ends_line: bool


def row_files(sources: Sequence[Path]) -> list[Path]:
    """The files of `sources`: files, or folders of files of one kind, whose names give the order.

    Raises:
        DataError: no such file, none of a known kind, a folder of several kinds, or a JSON array.
    """
    files = [file for source in sources for file in _files_of(source)]
    for file in files:
        if file.suffix in LINES and is_json_array(file):
            raise DataError(f"{file}: is a JSON array; an index is of one object per line: write it as JSONL")
    return files


def ranges_of(number: int, path: Path, pieces: Sequence[Piece]) -> list[Range]:
    """The ranges of file `number`, whose pieces were read; none of an empty file.

    Raises:
        DataError: a file that is not what its name says.
    """
    if path.suffix == PARQUET:
        return _group_ranges(number, path)
    if path.suffix == TAR:
        return [Range(number, path, 0, len(samples(path)), 0)]
    size, ranges, newlines = path.stat().st_size, [], 0
    for begin, piece in zip(range(0, size, PIECE), pieces, strict=False):
        # Lines that begin before it: the first one, and one behind each newline but a newline just before it.
        first = 1 + newlines - pieces[len(ranges) - 1].ends_line if begin else 0
        ranges.append(Range(number, path, begin, min(begin + PIECE, size), first))
        newlines += piece.lines
    return ranges


def rows_bytes(path: Path) -> int:
    """How large the rows of a file are, those of Parquet before they were compressed.

    Raises:
        DataError: a file that is not what its name says.
    """
    if path.suffix != PARQUET:
        return path.stat().st_size
    with parquet_file(path) as file:
        return sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))


def pieces_of(path: Path) -> int:
    """How many pieces a file is read in."""
    return 1 if path.suffix == TAR else max(1, -(-path.stat().st_size // PIECE))


def read_piece(path: Path, number: int) -> Piece:
    """Piece `number` of a file."""
    digest, lines, block = xxhash.xxh3_128(), 0, b""
    if path.suffix == TAR:
        digest.update(json.dumps(list(members(path).items())).encode())
        for row in shard_rows(path):
            digest.update(row if isinstance(row, bytes) else json.dumps(row, sort_keys=True).encode())
        return Piece(digest.hexdigest(), 0, False)
    with path.open("rb") as file:
        file.seek(number * PIECE)
        for _ in range(0, PIECE, BLOCK):
            if not (read := file.read(BLOCK)):
                break
            block = read
            digest.update(block)
            lines += block.count(b"\n")
    return Piece(digest.hexdigest(), lines, block.endswith(b"\n"))


def joined_digest(pieces: Sequence[Piece]) -> str:
    """Of a file, from those of its pieces in order."""
    return xxhash.xxh3_128_hexdigest("\n".join(piece.digest for piece in pieces).encode())


def content_digest(path: Path) -> str:
    """xxh3-128 of a file's content, hex."""
    return joined_digest([read_piece(path, number) for number in range(pieces_of(path))])


def edges_digest(path: Path) -> str:
    """xxh3-128 of the first and the last 64 KiB: a Parquet file's footer says where its rows are."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        digest.update(file.read(EDGE))
        file.seek(max(0, path.stat().st_size - EDGE))
        digest.update(file.read(EDGE))
    return digest.hexdigest()


def _files_of(source: Path) -> list[Path]:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder of rows")
    if source.is_file():
        if source.suffix not in KINDS:
            raise DataError(f"{source}: rows lie in .jsonl, .parquet and .tar files, found {source.suffix!r}")
        return [source]
    files = files_of_folder(source)
    if not files:
        raise DataError(f"{source}: a folder without .parquet, .tar or .jsonl files")
    return files


def _group_ranges(number: int, path: Path) -> list[Range]:
    with parquet_file(path) as file:
        groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
    ranges: list[Range] = []
    begin = first = rows = size = 0
    for group, meta in enumerate(groups):
        if rows and (rows + meta.num_rows > GROUP_ROWS or size + meta.total_byte_size > PIECE):
            ranges.append(Range(number, path, begin, group, first))
            begin, first, rows, size = group, first + rows, 0, 0
        rows, size = rows + meta.num_rows, size + meta.total_byte_size
    return [*ranges, Range(number, path, begin, len(groups), first)] if groups else []
