"""Rows of files by number, each read when it is wanted: index on disk -> **conversations and documents** -> loaders.

Nothing of a row is held. What travels to the loaders is where the index lies; each maps it, and reads where its rows
lie.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pangu_rl.data.conversations import Conversation, parse_conversation
from pangu_rl.data.documents import Document, is_document, parse_document
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Columns, unused
from pangu_rl.data.files.rows import OnBadRow, checked_row, row_uid
from pangu_rl.data.index.manifest import read_manifest
from pangu_rl.data.index.opening import open_index
from pangu_rl.data.index.reading import PlaceReader
from pangu_rl.data.index.row_index import RowIndex
from pangu_rl.errors import DataError


class RowFiles:
    """JSONL files, Parquet files and WebDataset tars of N conversations and documents together."""

    def __init__(self, index: RowIndex, passed: Sequence[str] = ()) -> None:
        """`passed` are columns, and keys of messages, that are meant to be unused."""
        self.index = index
        self.passed = tuple(passed)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def name(self) -> str:
        """For messages about all of them."""
        paths = self.index.paths
        return f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")

    @property
    def digest(self) -> str:
        """Of all that the files say and of which rows are used, hex; of pictures, only where they lie in a tar."""
        return self.index.manifest.digest

    @property
    def left_out(self) -> int:
        """Rows that are not among these."""
        return self.index.manifest.left_out

    @property
    def skipped(self) -> list[str]:
        """A line (file, row, reason) for each of the first of them, and how many more there are."""
        lines = [self.index.named(problem) for problem in self.index.manifest.problems]
        more = self.left_out - len(lines)
        return [*lines, f"{more} more rows of {self.name}"] if more else lines

    def where(self, row: int) -> str:
        """`file, row n (id)`, for messages."""
        try:
            return f"{self.index.place(row)} ({self.uid(row)})"
        except DataError:
            return str(self.index.place(row))

    def uid(self, row: int) -> str:
        """The row's own id, or file and number; raises as `raw`."""
        return self.raw(row)[1]

    def source(self, row: int) -> str:
        return self.index.source(row)

    def rows_of(self, uids: Sequence[str]) -> np.ndarray:
        """Numbers of the rows that have these ids, int64 [n]; -1 where none has."""
        rows, shared = self.index.rows_of(uids)
        for place in np.flatnonzero(shared).tolist():
            alike = self.index.rows_alike(uids[place])
            rows[place] = next((row for row in alike if self.uid(row) == uids[place]), -1)
        return rows

    def read(self, row: int) -> Conversation | Document:
        """Read and parse one row.

        Raises:
            DataError: it is neither a conversation nor a document; names file, row and key. As `raw`.
        """
        raw, uid = self.raw(row)
        document = is_document(raw)
        try:
            unused(raw, "document" if document else "conversation", self.passed)
            if document:
                return parse_document(raw, uid)
            return parse_conversation(Columns(passed=frozenset(self.passed)).applied(raw), uid)
        except BadRow as reason:
            raise DataError(f"{self.index.place(row)} ({uid}): {reason}") from None

    def raw(self, row: int) -> tuple[Row, str]:
        """The row as it is written, and its id.

        Raises:
            DataError: it cannot be read, or is another row than was indexed.
        """
        place = self.index.place(row)
        try:
            found = checked_row(self._reader.raw(place))
            uid = row_uid(found, f"{place.path.stem}:{place.number}")
        except BadRow as reason:
            raise DataError(f"{place}: {reason}") from None
        except OSError as error:
            raise DataError(f"{place}: {error.strerror or error}") from None
        if not self.index.has_id(row, uid):
            raise DataError(f"{place} is {uid!r}, another row than was indexed: the file was changed meanwhile")
        return found, uid

    @cached_property
    def _reader(self) -> PlaceReader:
        return PlaceReader()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.index.folder, self.digest, self.passed)


def open_rows(
    sources: Path | Sequence[Path],
    *,
    on_bad_row: OnBadRow,
    media_root: Path | None = None,
    passed: Sequence[str] = (),
) -> RowFiles:
    """The rows of `sources`, through their index: files, folders of files of one kind, whose names give the order, or
    the folder of an index. Identities are checked when it is made, and that media are under `media_root`; everything
    else of a row when it is read. `passed` are columns that are meant to be unused.

    Raises:
        DataError: as `open_index`; a row that is not in the index and may not be skipped, or no row.
    """
    index = open_index([sources] if isinstance(sources, Path) else sources, media_root)
    files = RowFiles(index, passed)
    if not len(files):
        hint = f"; the first of {files.left_out}: {files.skipped[0]}" if files.left_out else ": there is none in it"
        raise DataError(f"{', '.join(map(str, index.paths[:3]))}: no usable row{hint}")
    if files.left_out and on_bad_row == "refuse":
        others = f"; {files.left_out - 1} more rows cannot be used" if files.left_out > 1 else ""
        raise DataError(f"{files.skipped[0]}{others} (mend it, or set data.on_bad_row to skip)")
    return files


def _reopened(folder: Path, digest: str, passed: Sequence[str]) -> RowFiles:
    """In another process, on another node perhaps."""
    try:
        manifest = read_manifest(folder)
    except DataError:
        raise DataError(
            f"{folder}: the index of the rows cannot be read on {platform.node()}: make it by `pangu-rl index FILES -o "
            "FOLDER` where all nodes see it, and name that folder as data.train"
        ) from None
    if manifest.digest != digest:
        raise DataError(f"{folder} is another index here: {manifest.digest[:16]}, the driver's is {digest[:16]}")
    return RowFiles(RowIndex(folder, manifest), passed)
