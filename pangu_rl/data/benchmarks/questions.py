"""A benchmark's row -> **which question it belongs to**, and whether the figure is of it.

Rotations of one question's options, or the two questions about one picture of MME, count together: of each the file's
rows are counted before one is asked, so that a question that lacks some is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.data.benchmarks.cells import first_of, list_of, text_of
from pangu_rl.data.benchmarks.tables import table_rows
from pangu_rl.data.fields.bad_row import BadRow, Row

Question = tuple[str, str]
"""Category and group."""


def is_of_figure(row: Row, definition: BenchmarkConfig) -> bool:
    """Whether the cells of `where` begin as they should.

    Raises:
        BadRow: one is no text.
    """
    return all(text_of(row[name]).startswith(begin) for name, begin in definition.where.items() if name in row)


def id_of(row: Row, number: int, definition: BenchmarkConfig) -> str:
    """What answers and other rows call it by; its number without a column of ids.

    Raises:
        BadRow: it is no text.
    """
    cell = first_of(row, definition.columns.id)
    return str(number) if cell is None else text_of(cell)


def asked_in(row: Row, definition: BenchmarkConfig) -> list[Any]:
    """The one or several questions of its column of questions; an empty one without."""
    cell = first_of(row, definition.columns.question)
    return [""] if cell is None else list_of(cell)


def category_of(row: Row, definition: BenchmarkConfig) -> str:
    """
    Raises:
        BadRow: it has none, and the figure is counted by it.
    """
    names = definition.columns.category
    cell = first_of(row, names)
    if cell is None and definition.counted_by_category:
        raise BadRow(f"has no category, which the figure is counted by: none of the columns {', '.join(names or ())}")
    return "" if cell is None else text_of(cell)


def group_of(row: Row, uid: str, definition: BenchmarkConfig) -> str:
    """What the rows of one question share; `uid` in a benchmark whose rows are one each.

    Raises:
        BadRow: nothing says it.
    """
    names = definition.columns.group
    if names is None:
        return uid
    cell = first_of(row, names)
    if cell is None:
        raise BadRow(f"has nothing that says which rows are one question: none of the columns {', '.join(names)}")
    group = text_of(cell)
    if definition.group_modulo is None:
        return group
    if not (group.isdecimal() and len(group) < 20):
        raise BadRow(f"{', '.join(names)} {group[:40]!r} is not a number")
    return str(int(group) % definition.group_modulo)


def question_sizes(path: Path, definition: BenchmarkConfig) -> dict[Question, int]:
    """How many rows of the file each question has, in the order of their first rows.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    sizes: Counter[Question] = Counter()
    seen: set[str] = set()
    for number, row in table_rows(path):
        try:
            uid = id_of(row, number, definition)
            if uid in seen or not is_of_figure(row, definition):
                continue
            question = category_of(row, definition), group_of(row, uid, definition)
        except BadRow:
            continue  # left out, and named, when it is read to be asked
        seen.add(uid)
        sizes[question] += len(asked_in(row, definition))
    return dict(sizes)


def first_within(sizes: Mapping[Question, int], limit: int | None) -> dict[Question, int]:
    """The first questions that have at most `limit` rows together, one at the least; all without a limit."""
    chosen: dict[Question, int] = {}
    for question, size in sizes.items():
        if limit is not None and chosen and sum(chosen.values()) + size > limit:
            break
        chosen[question] = size
    return chosen
