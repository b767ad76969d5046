"""Files of benchmarks as the hub has them: TSV, Parquet, JSON lines -> **rows with their numbers**, cells untouched."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pangu_rl.data.fields.bad_row import Row, is_blank
from pangu_rl.data.files.rows import numbered_rows
from pangu_rl.errors import DataError

SEPARATORS = {".tsv": "\t", ".csv": ","}


def table_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows of a `.tsv` (VLMEvalKit), a `.csv`, or what `numbered_rows` reads: Parquet, JSON lines, folders of either.

    A row has no cell that is `absent`, whatever kind of file it comes out of.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    rows = _cell_rows(path) if path.suffix in SEPARATORS else _object_rows(path)
    for number, row in rows:
        yield number, {name: cell for name, cell in row.items() if not absent(cell)}


def absent(cell: Any) -> bool:
    """Whether a cell holds nothing: null, a text that nobody sees anything of, or no number."""
    return cell is None or (is_blank(cell) if isinstance(cell, str) else isinstance(cell, float) and cell != cell)


def _cell_rows(path: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(sys.maxsize)  # a cell holds a picture
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=SEPARATORS[path.suffix])
            for number in itertools.count(1):
                row = next(rows, None)
                if row is None:
                    return
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, row {number}: has another number of cells than the {len(rows.fieldnames)}"
                        " columns: are its cells quoted?"
                    )
                yield number, row
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of a benchmark") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable file of separated cells: {error}") from None


def _object_rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, raw in numbered_rows(path):
        row = _parsed(raw, path, number) if isinstance(raw, bytes) else raw
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: is a JSON {type(row).__name__}, not an object")
        yield number, row


def _parsed(line: bytes, path: Path, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, row {number}: is not JSON: {error}") from None
