"""Rows of JSONL, Parquet, WebDataset shards or a saved `datasets` folder, with their numbers; bad ones with a reason.

One reader for prompts and conversations. A bad row either ends the run or is skipped and listed, by configuration.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pangu_rl.data.webdataset import shard_rows, shards
from pangu_rl.errors import ConfigError, DataError

OnBadRow = Literal["refuse", "skip"]
Row = dict[str, Any]
Record = TypeVar("Record")

MAX_CONSECUTIVE_BAD = 100
"""More bad rows than this on end are a wrong file, not bad rows."""
MAX_FIELD_CHARS = 1_000_000
_SURROGATE = re.compile("[\ud800-\udfff]")
ROLES = ("system", "developer", "user", "assistant", "tool")


class BadRow(Exception):
    """Why a row cannot be used; the caller adds file and row number."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Record]):
    """The usable rows in file order, and a line (file, row, reason) for each that was left out."""

    path: Path
    on_bad_row: OnBadRow
    records: list[Record]
    numbers: list[int]
    """Row number of each record."""
    skipped: list[str]

    def without(self, problem: Callable[[Record], str | None]) -> Loaded[Record]:
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
        return Loaded(self.path, self.on_bad_row, records, numbers, skipped)


def load_records(path: Path, *, on_bad_row: OnBadRow, parse: Callable[[Row, str], Record]) -> Loaded[Record]:
    """Read `path` and parse each row under its uid: the row's `id`, or `<file stem>:<row number>`, numbers from 1.

    A row is bad when `parse` raises `BadRow` or `DataError`.

    Raises:
        DataError: no such file, a bad row under `refuse`, too many bad rows on end, or no usable row.
        ConfigError: raised by `parse`, for what a row needs and the configuration lacks.
    """
    records: list[Record] = []
    skipped: list[str] = []
    numbers: dict[str, int] = {}
    consecutive = 0
    for number, raw in numbered_rows(path):
        try:
            row = checked_row(raw)
            uid = row_uid(row, f"{path.stem}:{number}")
            if uid in numbers:
                raise BadRow(f"id {uid!r} is already that of row {numbers[uid]}: ids must be unique")
            records.append(parse(row, uid))
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
    return Loaded(path, on_bad_row, records, list(numbers.values()), skipped)


def evenly(records: Sequence[Record], limit: int | None) -> list[Record]:
    """`limit` of the records, spread evenly over the file, which may be sorted by what its rows are about; None is all
    of them."""
    if limit is None or limit >= len(records):
        return list(records)
    return [records[index * len(records) // limit] for index in range(limit)]


def _refusal(line: str) -> DataError:
    return DataError(f"{line} (mend it, or set data.on_bad_row to skip)")


def _nothing_usable(path: Path, skipped: Sequence[str]) -> DataError:
    return DataError(f"{path}: no usable row" + (f"; the first of {len(skipped)}: {skipped[0]}" if skipped else ""))


def text_field(row: Row, key: str, default: str | None = None) -> str:
    """`row[key]`, which must be text; `default` stands in for a missing or null value."""
    value = row.get(key)
    if value is None:
        value = default
    if value is None:
        raise BadRow(f"key {key} is missing")
    if not isinstance(value, str):
        raise BadRow(f"key {key} is {type(value).__name__} {str(value)[:40]!r}, not text")
    return value


def message_list(row: Row, key: str = "messages") -> tuple[Row, ...]:
    """Chat messages, each with a known `role` and a `content` of text or parts."""
    messages = row[key]
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise BadRow(f"key {key} is no list of messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRow(f"{key}[{index}] needs a role of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), (str, list)):
            raise BadRow(f"{key}[{index}] needs a content of text or parts")
    messages = tuple(map(_without_nulls, messages))
    for index, message in enumerate(messages):
        if isinstance(message["content"], list):
            _check_parts(message["content"], f"{key}[{index}].content")
    return messages


def _without_nulls(message: Row) -> Row:
    """Parquet gives every message and part every key of any other; a template must not see the nulls."""
    kept = {name: value for name, value in message.items() if value is not None}
    if isinstance(kept["content"], list):
        kept["content"] = [
            {name: value for name, value in part.items() if value is not None} if isinstance(part, dict) else part
            for part in kept["content"]
        ]
    return kept


def _check_parts(parts: list[Any], where: str) -> None:
    for index, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            continue
        if kind != "image":
            raise BadRow(f'{where}[{index}] is neither {{"type": "text", "text": ...}} nor {{"type": "image"}}')
        if extra := sorted(set(part) - {"type"}):
            raise BadRow(f"{where}[{index}] is an image part with {extra[0]}: its file belongs in the row's images")


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
        if len(text) > MAX_FIELD_CHARS:
            raise BadRow(f"key {key} has {len(text)} characters, more than {MAX_FIELD_CHARS}")
    return row


def _parsed_line(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadRow(f"is not UTF-8 at byte {error.start}") from None
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
        DataError: no such file, or one that cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such prompt set; `pangu-rl curate` prepares the shipped ones")
    if found := shards(path):
        rows: Iterator[Row | bytes] = (row for shard in found for row in shard_rows(shard))
    elif parquet := sorted(path.glob("*.parquet")):
        rows = itertools.chain.from_iterable(map(_parquet_rows, parquet))
    elif path.is_dir():
        rows = _saved_dataset_rows(path)
    elif path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix in (".jsonl", ".json"):
        return _jsonl_lines(path)
    else:
        raise DataError(
            f"{path}: expected .jsonl, .parquet, .tar, a folder of .tar, or one saved by `datasets`, "
            f"found {path.suffix!r}"
        )
    return zip(itertools.count(1), rows)


def _jsonl_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from None


def _saved_dataset_rows(path: Path) -> Iterator[Row]:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"{path}: not a folder saved by `datasets`: {error}") from None
    if isinstance(dataset, datasets.DatasetDict):
        raise DataError(f"{path}: holds the splits {', '.join(dataset)}; name one, e.g. {path / next(iter(dataset))}")
    yield from dataset
