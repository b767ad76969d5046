"""A table as a grid of cells -> **HTML, Markdown, LaTeX, CSV**."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Form = Literal["html", "markdown", "latex", "csv"]
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}"}
)


@dataclass(frozen=True, slots=True)
class Cell:
    row: int
    column: int
    text: str = ""
    rows: int = 1
    """That it spans."""
    columns: int = 1
    header: bool = False


class BadTable(ValueError):
    """Cells that overlap, or that leave a place free; the message says where."""


def plain_cells(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[Cell]:
    """Of a table with one line of headings.

    Raises:
        BadTable: a row of another length.
    """
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise BadTable(f"rows[{number}] has {len(row)} values and there are {len(columns)} columns")
    head = [Cell(0, column, str(name), header=True) for column, name in enumerate(columns)]
    body = [Cell(at, column, _said(value)) for at, row in enumerate(rows, 1) for column, value in enumerate(row)]
    return [*head, *body]


def grid_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Each place's cell, rows by columns.

    Raises:
        BadTable: a place with two cells or none.
    """
    places: dict[tuple[int, int], Cell] = {}
    for cell in cells:
        if cell.rows < 1 or cell.columns < 1 or cell.row < 0 or cell.column < 0:
            raise BadTable(f"a cell at row {cell.row}, column {cell.column} spans {cell.rows} x {cell.columns}")
        for row in range(cell.row, cell.row + cell.rows):
            for column in range(cell.column, cell.column + cell.columns):
                if (row, column) in places:
                    raise BadTable(f"row {row}, column {column} has two cells")
                places[row, column] = cell
    height, width = (1 + max((place[axis] for place in places), default=-1) for axis in (0, 1))
    if missing := next(((r, c) for r in range(height) for c in range(width) if (r, c) not in places), None):
        raise BadTable(f"row {missing[0]}, column {missing[1]} has no cell")
    return [[places[row, column] for column in range(width)] for row in range(height)]


def completed(cells: Sequence[Cell]) -> list[Cell]:
    """With an empty cell at each free place, as browsers show short rows."""
    taken = {
        (row, column)
        for cell in cells
        for row in range(cell.row, cell.row + cell.rows)
        for column in range(cell.column, cell.column + cell.columns)
    }
    height, width = (1 + max((place[axis] for place in taken), default=-1) for axis in (0, 1))
    free = [(row, column) for row in range(height) for column in range(width) if (row, column) not in taken]
    return sorted([*cells, *(Cell(row, column) for row, column in free)], key=lambda cell: (cell.row, cell.column))


def written(cells: Sequence[Cell], form: Form) -> str:
    """Spans are HTML's alone: elsewhere a cell's text stands in its first place. Raises as `grid_of`."""
    grid = grid_of(cells)
    if form == "html":
        return html(grid)
    texts = [
        [cell.text if (cell.row, cell.column) == (r, c) else "" for c, cell in enumerate(row)]
        for r, row in enumerate(grid)
    ]
    return {"markdown": _markdown, "latex": _latex, "csv": _csv}[form](texts)


def html(grid: Sequence[Sequence[Cell]]) -> str:
    """One line of markup, as table recognition is graded by."""
    lines = []
    for number, row in enumerate(grid):
        own = [cell for column, cell in enumerate(row) if (cell.row, cell.column) == (number, column)]
        lines.append(f"<tr>{''.join(map(_html_cell, own))}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _html_cell(cell: Cell) -> str:
    tag = "th" if cell.header else "td"
    spans = "".join(f' {name}="{n}"' for name, n in (("rowspan", cell.rows), ("colspan", cell.columns)) if n > 1)
    return f"<{tag}{spans}>{escape(cell.text, quote=False)}</{tag}>"


def _markdown(texts: list[list[str]]) -> str:
    lines = ["| " + " | ".join(" ".join(text.replace("|", "\\|").split()) for text in row) + " |" for row in texts]
    return "\n".join([lines[0], "|" + "---|" * len(texts[0]), *lines[1:]])


def _latex(texts: list[list[str]]) -> str:
    rows = [" & ".join(" ".join(text.translate(_LATEX).split()) for text in row) + r" \\" for row in texts]
    head, *body = rows
    inner = "\n".join([r"\hline", head, r"\hline", *body, r"\hline"])
    return f"\\begin{{tabular}}{{{'l' * len(texts[0])}}}\n{inner}\n\\end{{tabular}}"


def _csv(texts: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(texts)
    return buffer.getvalue().rstrip("\n")


def _said(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
