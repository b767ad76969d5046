"""Cells of a benchmark's row -> **texts, lists, pictures**, whatever kind of file they come out of.

A TSV writes lists as text, Python's or JSON's; Parquet has them. A picture is bytes, base64 or a path.
"""

from __future__ import annotations

import ast
import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from string import ascii_uppercase
from typing import Any

from pangu_rl.config.benchmark import Names
from pangu_rl.data.benchmarks.tables import absent
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.images import image_paths

_LETTER = re.compile(r"[A-Z]")
_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_LIST_CHARS = 100_000
NUMBER = "#"
MAX_PICTURES = 64


def first_of(row: Row, names: Sequence[str] | None) -> Any:
    """The first of the columns that the row has, or None."""
    return next((row[name] for name in names or () if name in row), None)


def text_of(cell: Any) -> str:
    """A cell as text; whole numbers without a fraction, as they are written.

    Raises:
        BadRow: null, bytes, or what else is no text.
    """
    if cell is None:
        raise BadRow("has null where a text is wanted")
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, (Decimal, datetime.date, datetime.time)):
        return _written(cell)
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=_written)
    if _SURROGATE.search(text):
        raise BadRow(f"has {text[:40]!r}: half a surrogate pair is no text")
    return text


def _written(value: Any) -> str:
    """What Parquet has and JSON does not: exact numbers, dates and times."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise BadRow(f"has {value!r:.40}: {type(value).__name__} is no text")


def list_of(cell: Any) -> list[Any]:
    """A list as it is, one that a text spells, or the cell alone. Text is parsed as data and never evaluated."""
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if isinstance(cell, str) and cell[:1] == "[" and cell[-1:] == "]" and len(cell) <= MAX_LIST_CHARS:
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(value, list):
                return value
    return [cell]


def pictures_of(row: Row, names: Names) -> tuple[str, ...]:
    """The pictures of the first of the columns that the row has, kept where they are embedded; `image_#` is the columns
    `image_1`, `image_2` and so on together.

    Raises:
        BadRow: a cell that is no picture.
    """
    for name in names:
        numbered = [name.replace(NUMBER, str(number)) for number in range(1, MAX_PICTURES)]
        present = [row[column] for column in (numbered if NUMBER in name else [name]) if column in row]
        if present:
            return tuple(picture for cell in present for picture in pictures_in(cell))
    return ()


def options_of(row: Row, names: Names | None) -> list[str]:
    """Option texts in the order of their letters, of columns that are named by letters or, without any, of numbered
    ones (`a#`: `a0`, `a1`, ...) or one that has a list; none for a row that has neither.

    Raises:
        BadRow: an option is left out between others, or is no text.
    """
    letters = [name for name in names or () if _LETTER.fullmatch(name)]
    others = [name for name in names or () if name not in letters]
    if options := _in_order([row.get(name) for name in letters], letters):
        return options
    for name in others:
        numbered = [name.replace(NUMBER, str(number)) for number in range(len(ascii_uppercase))]
        if NUMBER in name and (options := _in_order([row.get(column) for column in numbered], numbered)):
            return options
    cells = list_of(first_of(row, others))
    return _without_letters(_in_order(cells, [str(place) for place in range(1, len(cells) + 1)]))


def _in_order(cells: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Texts of the cells that are there: the first so many of them."""
    present = [not absent(cell) for cell in cells]
    if not all(present[: sum(present)]):
        shown = ", ".join(name for name, there in zip(names, present, strict=True) if there)
        raise BadRow(f"has the options {shown}: one is left out between them")
    return [text_of(cell) for cell in cells[: sum(present)]]


def _without_letters(options: list[str]) -> list[str]:
    """As they are, or where each begins with its own letter (`A. red`, `B. blue`), what stands behind it."""
    heads = [f"{chr(ord('A') + index)}. " for index in range(len(options))]
    if options and all(option.startswith(head) for option, head in zip(options, heads, strict=True)):
        return [option.removeprefix(head) for option, head in zip(options, heads, strict=True)]
    return options


def shuffled(options: Sequence[str], key: str) -> list[str]:
    """The options in an order that their texts and `key` decide."""
    return sorted(options, key=lambda option: hashlib.sha256(f"{key}/{option}".encode()).digest())


def letter_of(answer: str, options: Sequence[str], golds: str) -> str:
    """The letter that is right: the gold's own, else that of the option with its text or, where `golds` is
    `letter_or_index`, its index from 0.

    Raises:
        BadRow: it is none of the options, or could be two of them.
    """
    letters = [chr(ord("A") + index) for index in range(len(options))]
    bare = answer.strip().strip("().").strip()
    found = {letter for letter in letters if letter == bare}
    if golds == "letter_or_index":
        found |= {letter for index, letter in enumerate(letters) if bare == str(index)}
    else:
        found |= {letter for letter, option in zip(letters, options) if option.strip() == answer.strip()}
    if len(found) != 1:
        raise BadRow(f"answer {answer[:40]!r} is not one of the options: they are {len(options)}, by {golds}")
    return found.pop()


def pictures_in(cell: Any) -> tuple[str, ...]:
    """Names of the pictures of a cell: bytes, base64, a path, or a list of these.

    Raises:
        BadRow: it is none of them.
    """
    embedded = ({"bytes": one} if isinstance(one, bytes) else one for one in _entries(cell))
    return image_paths({"images": list(embedded)})


def _entries(cell: Any) -> list[Any]:
    if not (isinstance(cell, str) and cell.startswith("[")):
        return list_of(cell)
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        # Python's single quotes; base64 and paths in them hold none, and are split without evaluation.
        value = re.findall(r"'([^']*)'", cell)
    return value if isinstance(value, list) else [value]
