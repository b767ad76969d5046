"""A folder that `datasets` saved -> **rows**, of the files that lie in it and of nothing else.

Read without `datasets`: that decodes the pictures that rows name, wherever these lie, fetches those that are addresses,
and opens whatever path `state.json` has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pangu_rl.data.arrow.values import row_at
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.errors import DataError, first_line

STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved_dataset(folder: Path) -> bool:
    """Whether `datasets` saved the folder, with or without splits."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def saved_dataset_rows(folder: Path) -> Iterator[Row | bytes]:
    """
    Raises:
        DataError: no such folder, one of several splits, or one that names a file that does not lie in it.
    """
    return (row for file in _files(folder) for row in _rows(file))


def _files(folder: Path) -> list[Path]:
    if (folder / SPLITS).is_file():
        splits = _json(folder / SPLITS, "splits")
        example = folder / str(next(iter(splits), "train"))
        raise DataError(f"{folder}: holds the splits {', '.join(map(str, splits))}; name one, e.g. {example}")
    listed = _json(folder / STATE, "_data_files")
    return [_inside(folder, file.get("filename") if isinstance(file, dict) else file) for file in listed]


def _inside(folder: Path, name: Any) -> Path:
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
    if not plain or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder / STATE}: names the file {str(name)[:80]!r}, which does not lie in the folder")
    if not (folder / name).is_file():
        raise DataError(f"{folder / name}: no such file, {STATE} names it")
    return folder / name


def _json(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[key]
    except FileNotFoundError:
        raise DataError(
            f"{path.parent}: holds no .jsonl, .parquet or .tar, and is not a folder saved by `datasets`: it has no "
            f"{path.name}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path.parent}: not a folder saved by `datasets`: {path.name}: {first_line(error)}") from None
    if not isinstance(found, list):
        raise DataError(f"{path.parent}: not a folder saved by `datasets`: {path.name} has no list {key}")
    return found


def _rows(file: Path) -> Iterator[Row | bytes]:
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
            for batch in batches:
                yield from (row_at(batch, place) for place in range(batch.num_rows))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a file of `datasets` that can be read: {first_line(error)}") from None
