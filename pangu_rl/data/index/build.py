"""Files of rows -> **an index on disk**: each range of a file is scanned by a worker process that writes its shard.

The driver holds counts alone. The folder appears when it is whole; the same files give the same index, whatever the
number of workers.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.files.rows import checked_row, row_uid
from pangu_rl.data.index.files import (
    Piece,
    Range,
    edges_digest,
    joined_digest,
    pieces_of,
    ranges_of,
    read_piece,
    rows_bytes,
)
from pangu_rl.data.index.ids import bits_for, sort_bucket
from pangu_rl.data.index.manifest import MANIFEST, IndexedFile, Manifest, Problem, Shard, compared
from pangu_rl.data.index.reading import PlaceReader
from pangu_rl.data.index.row_index import RowIndex
from pangu_rl.data.index.scan import scan
from pangu_rl.data.index.shards import NAMED, Found, read_columns, shard_file, write_shard
from pangu_rl.errors import DataError, RunError

ALONE = 64 * 2**20
"""Bytes of rows that are indexed before a worker process would be up."""

T = TypeVar("T")
Map = Callable[..., Iterable[Any]]


def build_index(paths: Sequence[Path], folder: Path, media_root: Path | None = None, workers: int = 0) -> RowIndex:
    """Index the rows of `paths` into `folder`, in the place of what is there; 0 workers are as many as CPUs.

    Rows without an identity, with that of an earlier row, or whose media are not under `media_root` are left out, and
    named in the manifest.

    Raises:
        DataError: a file that is named twice, cannot be read, or changes meanwhile; the folder cannot be written.
        RunError: a worker process died.
    """
    if twice := [path for path, times in Counter(path.resolve() for path in paths).items() if times > 1]:
        raise DataError(f"{twice[0]}: named twice: each of its rows would be there twice")
    folder = folder.absolute()
    if folder.exists() and not (folder / MANIFEST).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise DataError(f"{folder}: holds something that is no index of rows: name another folder")
    unfinished = folder.with_name(f".{folder.name.lstrip('.')}.{os.getpid()}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        with _mapping(paths, workers) as run:
            manifest = _build(paths, unfinished, media_root, run)
        if changed := compared(unfinished, manifest)[1]:
            raise DataError(f"{changed[0]}: it was written to meanwhile, begin again when it is whole")
        for left in unfinished.glob("*.npy"):
            left.unlink()
        manifest.write(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    except BrokenProcessPool:
        raise RunError("a process that indexes rows died, for want of memory perhaps: use fewer --workers") from None
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}; {folder} is to be the index") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return RowIndex(folder, manifest)


@contextmanager
def _mapping(paths: Sequence[Path], workers: int) -> Iterator[Map]:
    """`map`, in this process where there is little to do."""
    if workers == 1 or sum(map(rows_bytes, paths)) <= ALONE:
        yield map
        return
    count = workers or len(os.sched_getaffinity(0))
    executor: Executor = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)


def _build(paths: Sequence[Path], folder: Path, media_root: Path | None, run: Map) -> Manifest:
    files, ranges = _read_files(paths, folder, run)
    shards = [shard_file(folder, number) for number in range(len(ranges))]
    found: list[Found] = list(run(scan, ranges, [media_root] * len(ranges), shards))
    while True:
        manifest = _manifest(files, ranges, found)
        firsts = np.cumsum([0, *(part.rows for part in found)]).tolist()
        placed = list(zip(shards, firsts))
        sort = partial(sort_bucket, folder, bits=manifest.id_bits, shards=placed)
        same = np.concatenate(list(run(sort, range(2**manifest.id_bits))))
        doubles = _true_doubles(RowIndex(folder, manifest), same)
        if not doubles:
            return manifest
        _leave_out(doubles, firsts, shards, found)


def _read_files(paths: Sequence[Path], folder: Path, run: Map) -> tuple[list[IndexedFile], list[Range]]:
    before = [path.stat() for path in paths]
    pieces = [(number, piece) for number, path in enumerate(paths) for piece in range(pieces_of(path))]
    read: list[list[Piece]] = [[] for _ in paths]
    results = run(read_piece, [paths[number] for number, _ in pieces], [piece for _, piece in pieces])
    for (number, _), piece in zip(pieces, results, strict=True):
        read[number].append(piece)
    files = [
        IndexedFile(
            path=os.path.relpath(path.resolve(), folder.resolve()),
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            edges=edges_digest(path),
            digest=joined_digest(read[number]),
        )
        for number, (path, status) in enumerate(zip(paths, before, strict=True))
    ]
    return files, [some for number, path in enumerate(paths) for some in ranges_of(number, path, read[number])]


def _manifest(files: Sequence[IndexedFile], ranges: Sequence[Range], found: Sequence[Found]) -> Manifest:
    shards = tuple(
        Shard(file=some.file, first=some.first, rows=part.rows, sources=part.sources, digest=part.digest)
        for some, part in zip(ranges, found, strict=True)
    )
    problems = [
        Problem(file=some.file, number=some.first + number, reason=reason)
        for some, part in zip(ranges, found, strict=True)
        for number, reason in part.problems
    ]
    return Manifest(
        files=tuple(files),
        shards=shards,
        id_bits=bits_for(sum(part.rows for part in found)),
        left_out=sum(part.left_out for part in found),
        problems=tuple(problems[:NAMED]),
    )


def _true_doubles(index: RowIndex, same: np.ndarray) -> dict[int, str]:
    """Of rows [K, 2] with one hash: those whose id is an earlier row's, with the reason."""
    reader = PlaceReader()
    doubles: dict[int, str] = {}
    for earlier, row in same[np.argsort(same[:, 1])].tolist():
        one, other = index.place(earlier), index.place(row)
        uids = []
        for place in (one, other):
            try:
                uids.append(row_uid(checked_row(reader.raw(place)), f"{place.path.stem}:{place.number}"))
            except BadRow as reason:
                raise DataError(f"{place}: {reason}: the file was changed while it was indexed") from None
        if uids[0] == uids[1]:
            where = "" if one.path == other.path else f" of {one.path}"
            doubles[row] = f"id {uids[1]!r} is already that of row {one.number}{where}: ids must be unique"
    return doubles


def _leave_out(doubles: dict[int, str], firsts: Sequence[int], shards: Sequence[Path], found: list[Found]) -> None:
    """Write the shards anew that list one of `doubles`."""
    rows = np.array(sorted(doubles), np.int64)
    numbers = np.searchsorted(firsts, rows, side="right") - 1
    for number in np.unique(numbers).tolist():
        local = rows[numbers == number] - firsts[number]
        columns = read_columns(shards[number])
        for row in local.tolist():
            found[number].leave_out(int(columns["number"][row]), doubles[row + firsts[number]])
        found[number].problems.sort()
        kept = {name: np.delete(column, local) for name, column in columns.items() if name != "by_source"}
        del columns
        write_shard(shards[number], kept, found[number])
