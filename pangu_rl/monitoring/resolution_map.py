"""Cells of a resolution search -> **the best pair, a table, a heat map**."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from pangu_rl.monitoring.accuracy_figures import share
from pangu_rl.records import Evaluation

TOKEN_AREA = 28**2
"""Pixels of a token of a picture."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one pair of limits gives."""

    min_pixels: int
    max_pixels: int
    picture_tokens: float
    """Mean tokens of a picture."""
    evaluations: tuple[Evaluation, ...]
    """One for each set."""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cell:
        return cls(**{**values, "evaluations": tuple(Evaluation(**one) for one in values["evaluations"])})

    def verdicts(self, name: str | None) -> list[bool]:
        """Of one set, or of all."""
        return [right for one in self.evaluations if name in (None, one.name) for right in one.correct.values()]


def best_cell(cells: Sequence[Cell], chosen_on: str | None) -> Cell:
    """The most accurate cell on the set `chosen_on`, or on all; of equal ones the one with the fewest tokens."""
    return min(cells, key=lambda cell: (-share(cell.verdicts(chosen_on))["accuracy"], cell.picture_tokens))


def resolution_table(cells: Sequence[Cell], best: Cell, chosen_on: str | None) -> Table:
    """Accuracy by least (rows) and greatest area (columns), the best pair in bold."""
    rows, columns = _axes(cells)
    of_pair = {(cell.min_pixels, cell.max_pixels): cell for cell in cells}
    table = Table(title=f"Accuracy on {chosen_on or 'all sets'}, %, by pixels")
    table.add_column("min \\ max", justify="right", no_wrap=True)
    for greatest in columns:
        table.add_column(_area(greatest), justify="right", no_wrap=True)
    for least in rows:
        shown = [of_pair[least, greatest] for greatest in columns]
        texts = [f"{100 * share(cell.verdicts(chosen_on))['accuracy']:.1f}" for cell in shown]
        table.add_row(_area(least), *(f"[bold]{t}[/]" if c is best else t for t, c in zip(texts, shown, strict=True)))
    return table


def best_text(best: Cell, chosen_on: str | None) -> str:
    """The best pair with its accuracy and 95 % interval on every set, in one line."""
    parts = []
    for one in best.evaluations:
        found = share(list(one.correct.values()))
        low, high = 100 * found["low"], 100 * found["high"]
        parts.append(f"{one.name} {100 * found['accuracy']:.1f} % ({low:.1f} - {high:.1f}) of {found['items']}")
    pair = f"min_pixels {best.min_pixels}, max_pixels {best.max_pixels}"
    return f"best on {chosen_on or 'all sets'}: {pair}, {best.picture_tokens:.0f} tokens a picture; {', '.join(parts)}"


def draw_map(path: Path, cells: Sequence[Cell], best: Cell, chosen_on: str | None) -> None:
    """A panel for each set, accuracy in every cell, the best pair framed; a last one has the tokens of a picture."""
    from matplotlib.figure import Figure

    rows, columns = _axes(cells)
    panels: list[tuple[str, str, Callable[[Cell], float]]] = [
        (f"{name}{', chooses' if name == chosen_on else ''}: accuracy, %", "%.1f", _accuracy_of(name))
        for name in _sets(cells)
    ]
    panels.append(("mean tokens of a picture", "%.0f", lambda cell: cell.picture_tokens))
    width, height = 1.8 + 0.75 * len(columns), 1.5 + 0.5 * len(rows)
    figure = Figure(figsize=(width * len(panels), height), layout="constrained")
    of_pair = {(cell.min_pixels, cell.max_pixels): cell for cell in cells}
    for number, (title, form, value) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        values = [[value(of_pair[least, greatest]) for greatest in columns] for least in rows]
        image = axes.imshow(values, cmap="viridis", aspect="auto")
        middle = (image.norm.vmin + image.norm.vmax) / 2
        for i, line in enumerate(values):
            for j, one in enumerate(line):
                dark = one < middle
                axes.text(j, i, form % one, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        j, i = columns.index(best.max_pixels), rows.index(best.min_pixels)
        axes.add_patch(_frame(j, i))
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(columns)), [_area(area) for area in columns], fontsize=8, rotation=30)
        axes.set_yticks(range(len(rows)), [_area(area) for area in rows], fontsize=8)
        axes.set_xlabel("max_pixels", fontsize=9)
        axes.set_ylabel("min_pixels", fontsize=9)
    figure.savefig(path, dpi=130)


def _accuracy_of(name: str) -> Callable[[Cell], float]:
    return lambda cell: 100 * share(cell.verdicts(name))["accuracy"]


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2.5)


def _axes(cells: Sequence[Cell]) -> tuple[list[int], list[int]]:
    """Least areas and greatest areas, ascending."""
    return sorted({cell.min_pixels for cell in cells}), sorted({cell.max_pixels for cell in cells})


def _sets(cells: Sequence[Cell]) -> list[str]:
    return [one.name for one in cells[0].evaluations]


def _area(pixels: int) -> str:
    """In tokens of 28 x 28 pixels where they are whole."""
    return f"{pixels // TOKEN_AREA}*28²" if pixels % TOKEN_AREA == 0 else str(pixels)
