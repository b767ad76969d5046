"""Rows of JSONL, Parquet, WebDataset shards or a saved `datasets` folder, with their numbers; bad ones with a reason.

One reader for prompts and conversations. A bad row either ends the run or is skipped and listed, by configuration.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pangu_rl.data.arrow.parquet import parquet_rows
from pangu_rl.data.arrow.saved_dataset import is_saved_dataset, saved_dataset_rows
from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.files.webdataset import shard_rows
from pangu_rl.data.formats.reading import AS_OURS, Reading, RowReader
from pangu_rl.errors import ConfigError, DataError

OnBadRow = Literal["refuse", "skip"]
Record = TypeVar("Record")
Check = Callable[[Record], str | None]
"""Why a record cannot be used (it is too long, its gold does not grade itself correct), or None."""

MAX_CONSECUTIVE_BAD = 100
"""More bad rows than this on end are a wrong file, not bad rows."""
MAX_FIELD_CHARS = 1_000_000
PARQUET, TAR, LINES = ".parquet", ".tar", (".jsonl", ".json")
KINDS = (PARQUET, TAR, *LINES)
"""Endings of files of rows."""
_ABOUT = ("dataset_info.json", "dataset_infos.json")
"""Describe the files beside them."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Record]):
    """The usable rows in file order, and a line (file, row, reason) for each that was left out."""

    path: Path
    on_bad_row: OnBadRow
    records: list[Record]
    numbers: list[int]
    """Row number of each record."""
    skipped: list[str]
    notes: list[str] = field(default_factory=list)
    """Lines on how the file was read: its format, columns that are not used, text that looks like markers."""

    def without(self, problem: Check[Record]) -> Loaded[Record]:
        """Judge the records once more: one with a `problem` is a bad row like any other.

        Raises:
            DataError: a bad row under `refuse`, or no row is left.
        """
        kept: list[tuple[Record, int]] = []
        skipped = list(self.skipped)
        for record, number in zip(self.records, self.numbers, strict=True):
            reason = problem(record)
            if reason is None:
                kept.append((record, number))
                continue
            skipped.append(f"{self.path}, row {number}: {reason}")
            if self.on_bad_row == "refuse":
                raise _refusal(skipped[-1])
        if not kept:
            raise _nothing_usable(self.path, skipped)
        records, numbers = map(list, zip(*kept, strict=True))
        return replace(self, records=records, numbers=numbers, skipped=skipped)


def load_records(
    path: Path,
    kind: Kind,
    *,
    on_bad_row: OnBadRow,
    parse: Callable[[Row, str], Record],
    check: Check[Record] | None = None,
    reading: Reading = AS_OURS,
) -> Loaded[Record]:
    """Read `path` and parse each row under its uid: the row's `id`, or `<file stem>:<row number>`, numbers from 1.

    `reading` says what the file's columns mean; `parse` gets rows of our own columns. A row is bad when `parse` raises
    `BadRow` or `DataError`, when `check` finds a fault, or when it has a column that looks meant for training and is
    not used.

    Raises:
        DataError: no such file, a bad row under `refuse`, too many bad rows on end, or no usable row.
        ConfigError: raised by `parse`, for what a row needs and the configuration lacks.
    """
    records: list[Record] = []
    skipped: list[str] = []
    numbers: dict[str, int] = {}
    consecutive = 0
    reader = RowReader(reading, kind, path)
    for number, raw in numbered_rows(reader.file):
        try:
            row = reader.row(checked_row(raw))
            uid = row_uid(row, f"{path.stem}:{number}")
            if uid in numbers:
                raise BadRow(f"id {uid!r} is already that of row {numbers[uid]}: ids must be unique")
            records.append(checked(parse(row, uid), check))
            numbers[uid] = number
            consecutive = 0
        except (BadRow, DataError) as reason:
            skipped.append(f"{path}, row {number}: {reason}")
            consecutive += 1
        except ConfigError as error:  # no fault of the row: it must not be skipped
            raise ConfigError(f"{path}, row {number}: {error}") from None
        if skipped and on_bad_row == "refuse":
            raise _refusal(skipped[0])
        if consecutive > MAX_CONSECUTIVE_BAD:
            raise DataError(f"{skipped[-1]}; {consecutive} bad rows on end: is this the right file?")
    if not records:
        raise _nothing_usable(path, skipped)
    return Loaded(path, on_bad_row, records, list(numbers.values()), skipped, reader.notes())


def checked(record: Record, check: Check[Record] | None) -> Record:
    """`record`; raises `BadRow` with the fault that `check` finds."""
    if check is not None and (problem := check(record)) is not None:
        raise BadRow(problem)
    return record


def evenly(records: Sequence[Record], limit: int | None) -> list[Record]:
    """`limit` of the records, spread evenly over the file, which may be sorted by what its rows are about; None is all
    of them."""
    if limit is None or limit >= len(records):
        return list(records)
    return [records[index * len(records) // limit] for index in range(limit)]


def _refusal(line: str) -> DataError:
    return DataError(f"{line} (mend it, or set data.on_bad_row to skip)")


def _nothing_usable(path: Path, skipped: Sequence[str]) -> DataError:
    reason = f"; the first of {len(skipped)}: {skipped[0]}" if skipped else ": there is none in it"
    return DataError(f"{path}: no usable row{reason}")


def row_uid(row: Row, default: str) -> str:
    """The row's `id`, or `default`; raises `BadRow`."""
    given = row.get("id")
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return text_field(row, "id", default) or default


def checked_row(raw: Row | bytes) -> Row:
    """A raw row -> an object of clean text; raises `BadRow`."""
    row = _parsed_line(raw) if isinstance(raw, bytes) else raw
    if not isinstance(row, dict):
        raise BadRow(f"is a JSON {type(row).__name__}, not an object")
    for key, text in _strings(row):
        if "\x00" in text:
            raise BadRow(f"key {key} holds a NUL character")
        if _SURROGATE.search(text):
            raise BadRow(f"key {key} holds half a surrogate pair")
        if len(text) > MAX_FIELD_CHARS and not text.startswith("data:image/"):
            raise BadRow(f"key {key} has {len(text)} characters, more than {MAX_FIELD_CHARS}")
    return row


def _parsed_line(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise BadRow(f"is not UTF-8 at byte {error.start}: save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadRow(f"is not JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # nesting, or an integer of thousands of digits
        raise BadRow(f"is not JSON that can be read: {error}") from None


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a row, under the name of its top-level key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, key or str(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item, key)


def numbered_rows(path: Path) -> Iterator[tuple[int, Row | bytes]]:
    """Raw rows with their numbers, from 1; a line of JSONL is not parsed yet.

    Raises:
        DataError: no such file, one that cannot be read, or a folder of several kinds.
    """
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder of rows; `pangu-rl curate` prepares those of cache://, and other relative "
            f"paths are of the working directory {Path.cwd()} or of the configuration's folder"
        )
    if path.is_dir():
        files = [] if is_saved_dataset(path) else files_of_folder(path)
        rows = (row for file in files for _, row in _rows_of(file)) if files else saved_dataset_rows(path)
        return zip(itertools.count(1), rows)
    return _rows_of(path)


def files_of_folder(folder: Path) -> list[Path]:
    """The files of rows in a folder, in the order of their names.

    Raises:
        DataError: they are of several kinds.
    """
    files = [path for path in folder.iterdir() if path.suffix in KINDS and path.name not in _ABOUT and path.is_file()]
    if len(kinds := sorted({path.suffix for path in files})) > 1:
        raise DataError(
            f"{folder}: a folder of {' and '.join(kinds)} files: name those that are rows, or put them into a folder "
            "of their own"
        )
    return sorted(files)


def _rows_of(file: Path) -> Iterator[tuple[int, Row | bytes]]:
    if file.suffix in LINES:
        return _json_rows(file)
    if file.suffix not in KINDS:
        raise DataError(
            f"{file}: expected .jsonl, .json, .parquet, .tar, a folder of one kind, or one saved by `datasets`, "
            f"found {file.suffix!r}: write its rows as one of these"
        )
    return zip(itertools.count(1), parquet_rows(file) if file.suffix == PARQUET else shard_rows(file))


def is_json_array(path: Path) -> bool:
    """Whether the first sign of the file is `[`."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["


def _json_rows(path: Path) -> Iterator[tuple[int, Row | bytes]]:
    if not is_json_array(path):
        return _jsonl_lines(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: begins as a JSON array and is none: {error}") from None
    return enumerate(rows, start=1)


def _jsonl_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line
