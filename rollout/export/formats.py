"""Rows -> **files under `data/`**: Parquet, JSON lines, ShareGPT's JSON lines, or Parquet that shows its pictures.

| format | files | |
|---|---|---|
| parquet | `data/train-00000.parquet`, ... | `images` are paths relative to the export |
| jsonl | `data/train-00000.jsonl`, ... | the same rows |
| sharegpt | `data/train-00000.jsonl`, ... | `conversations` with `from` and `value`, `<image>` where a picture stands |
| hf | as parquet | `images` hold the pictures' bytes beside their paths, so `datasets` decodes them |
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.config.export import Format
from pangu_rl.errors import DataError
from rollout.export.records import Row, Rows

FILE_BYTES = 512 * 2**20
"""A file that has so many is followed by another."""
GROUP_ROWS, GROUP_BYTES = 4096, 32 * 2**20
"""A row group has at most about so much, whichever comes first: what a writer and a reader hold."""
DICTIONARY_BYTES = 64 * 2**20
"""Equal pictures of a row group are stored once as long as its pictures have no more."""
MARKERS = {"image": "<image>", "video": "<video>"}
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_SPEAKERS = {"user": "human", "assistant": "gpt", "developer": "system", "tool": "observation"}


class _NumberedFiles:
    """`train-00000`, `train-00001`, ...: files of one export, closed when they are large."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self.rows: dict[str, int] = {}
        """Name -> rows of each."""

    def new(self) -> IO[bytes]:
        name = f"train-{len(self.rows):05d}{self._suffix}"
        self.rows[name] = 0
        return (self._folder / name).open("wb")

    def count(self, rows: int) -> None:
        self.rows[next(reversed(self.rows))] += rows


class ParquetFiles:
    """One schema in every file."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self._files = _NumberedFiles(folder, ".parquet")
        self._file: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        """Of what is pending."""

    def write(self, rows: Rows) -> None:
        if isinstance(rows, list):
            rows = pa.RecordBatch.from_pylist(rows, schema=self.schema)
        self._pending.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def close(self) -> dict[str, int]:
        """Rows of each file."""
        self._write_group()
        self._end_file()
        return self._files.rows

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._pending, schema=self.schema)
        self._pending = []
        self._rows = self._bytes = 0
        if not table.num_rows:
            return
        if self._file is None:
            self._file = self._files.new()
            self._writer = pq.ParquetWriter(
                self._file, self.schema, compression="zstd", dictionary_pagesize_limit=DICTIONARY_BYTES
            )
        self._writer.write_table(table)
        self._files.count(table.num_rows)
        if self._file.tell() >= FILE_BYTES:
            self._end_file()

    def _end_file(self) -> None:
        if self._file is not None:
            self._writer.close()
            self._file.close()
        self._file = self._writer = None


class HfFiles(ParquetFiles):
    """Parquet files whose column `images` holds pictures, as the `datasets` library writes them."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        from datasets import Features, Image, List

        features = Features.from_arrow_schema(schema)
        super().__init__(folder, Features({**features, "images": List(Image())}).arrow_schema)
        self._root = folder.parent
        self._read = functools.lru_cache(maxsize=8)(lambda path: (self._root / path).read_bytes())

    def write(self, rows: Rows) -> None:
        """A few rows at a time: each has its own copy of its pictures until Parquet's dictionary joins them."""
        shown: list[Row] = []
        size = 0
        for row in rows if isinstance(rows, list) else rows.to_pylist():
            paths = [image["path"] if isinstance(image, dict) else image for image in row["images"]]
            shown.append({**row, "images": [{"bytes": self._read(path), "path": path} for path in paths]})
            size += sum(len(image["bytes"]) for image in shown[-1]["images"])
            if size >= GROUP_BYTES // 4:
                super().write(shown)
                shown, size = [], 0
        super().write(shown)


class JsonLines:
    """One JSON object a line, changed by `form` first."""

    def __init__(self, folder: Path, form: Callable[[Row], Row] = lambda row: row) -> None:
        self._files = _NumberedFiles(folder, ".jsonl")
        self._file: IO[bytes] | None = None
        self._form = form

    def write(self, rows: Rows) -> None:
        for row in rows if isinstance(rows, list) else rows.to_pylist():
            if self._file is None:
                self._file = self._files.new()
            self._file.write(_line(self._form(row)))
            self._files.count(1)
            if self._file.tell() >= FILE_BYTES:
                self._end_file()

    def close(self) -> dict[str, int]:
        """Rows of each file."""
        self._end_file()
        return self._files.rows

    def _end_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _line(row: Row) -> bytes:
    """Readable in any script, but without the signs beside \\n that some readers end a line at."""
    text = json.dumps(row, ensure_ascii=False)
    return _LINE_ENDS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text).encode() + b"\n"


def open_files(format_: Format, folder: Path, schema: pa.Schema) -> ParquetFiles | JsonLines:
    """Where rows of `schema` are written to in this format; `folder` is `data` inside the export."""
    if format_ == "parquet":
        return ParquetFiles(folder, schema)
    if format_ == "hf":
        return HfFiles(folder, schema)
    return JsonLines(folder, sharegpt) if format_ == "sharegpt" else JsonLines(folder)


def sharegpt(row: Row) -> Row:
    """A row with `messages` as ShareGPT has it, its other columns as they are.

    Raises:
        DataError: a text holds a marker, which would be read as the place of a picture or video.
    """
    images = len(row["images"])
    turns = [
        {"from": _SPEAKERS.get(message["role"], message["role"]), "value": _value(row, message["content"])}
        for message in row["messages"]
    ]
    if images and all(isinstance(message["content"], str) for message in row["messages"]):
        first = next(turn for turn in turns if turn["from"] == "human")
        first["value"] = MARKERS["image"] * images + first["value"]
    rest = {name: value for name, value in row.items() if name != "messages"}
    for side in ("chosen", "rejected"):
        if side in rest:
            rest[side] = {"from": "gpt", "value": _value(row, rest[side])}
    return {"id": rest.pop("id"), "conversations": turns, **rest}


def _value(row: Row, content: str | list[dict[str, Any]]) -> str:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for kind, marker in MARKERS.items():
        if (kind == "image" or row.get("videos")) and any(marker in part.get("text", "") for part in parts):
            what = "picture" if kind == "image" else kind
            raise DataError(
                f"row {row['id']}: its text holds {marker}, which ShareGPT reads as a {what}: choose another --format"
            )
    return "".join(MARKERS.get(part["type"]) or part["text"] for part in parts)
