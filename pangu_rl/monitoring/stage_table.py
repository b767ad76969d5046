"""Evaluations of a pipeline's models -> **one table like the papers': stages by held-out sets and categories**.

Each cell has the accuracy with its interval and, below it, the change from each model that the stage started from, over
the items that both have a verdict on: its interval, and how many items became right and wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pangu_rl.monitoring.accuracy_table import Change, compare, of_source
from pangu_rl.monitoring.intervals import wilson
from pangu_rl.records import Evaluation

TITLE = "Held-out accuracy by stage, %"
CAPTION = "95 % intervals (Wilson); change in points, paired by item, with items that became right and wrong"
BLOCK = 5
"""Columns of a table; what is wider goes on in another one below, as in the papers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model of the pipeline."""

    name: str
    """The stage that made it, or the start."""
    against: tuple[str, ...]
    """Names of those that it was made from; of a merge all of them."""
    sets: Mapping[str, Evaluation]
    """By the set's name."""


def columns_of(measured: Sequence[Measured]) -> dict[str, dict[str, Evaluation]]:
    """Column -> model -> its evaluation: each set, and each of its sources where there are several."""
    columns: dict[str, dict[str, Evaluation]] = {}
    names = list(dict.fromkeys(name for model in measured for name in model.sets))
    for name in names:
        whole = {model.name: model.sets[name] for model in measured if name in model.sets}
        whole = columns[name] = {model: evaluation for model, evaluation in whole.items() if evaluation.correct}
        sources = sorted({source for evaluation in whole.values() for source in evaluation.sources.values()})
        for source in sources if len(sources) > 1 else []:
            parts = {model: of_source(evaluation, source) for model, evaluation in whole.items()}
            columns[f"{name}: {source}"] = {model: part for model, part in parts.items() if part.correct}
    return columns


def stage_figures(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The table for a machine: per model and column `items`, `right`, `accuracy`, `low`, `high`, and `changes`."""
    columns = columns_of(measured)
    return [
        {
            "stage": model.name,
            "against": list(model.against),
            "columns": {
                column: _figures(found[model.name]) | {"changes": _changes(model, found)}
                for column, found in columns.items()
                if model.name in found
            },
        }
        for model in measured
    ]


def stage_tables(measured: Sequence[Measured]) -> list[Table]:
    """For the terminal."""
    blocks = _blocks(measured)
    tables = []
    for block in blocks:
        first, last = block is blocks[0], block is blocks[-1]
        table = Table(title=TITLE if first else None, caption=CAPTION if last else None, show_lines=True)
        table.add_column("stage", no_wrap=True)
        for column, found in block:
            table.add_column(_header(column, found), justify="right", no_wrap=True)
        for model in measured:
            table.add_row(*("\n".join(cell) for cell in (_label(model), *_cells(model, block))))
        tables.append(table)
    return tables


def stage_markdown(measured: Sequence[Measured]) -> str:
    """The tables as Markdown, with their caption."""
    lines = [f"# {TITLE}", ""]
    for block in _blocks(measured):
        lines.append(_markdown(["stage", *(_header(column, found) for column, found in block)]))
        lines.append(_markdown(["---", *["---:"] * len(block)]))
        for model in measured:
            lines.append(_markdown(["<br>".join(cell) for cell in (_label(model), *_cells(model, block))]))
        lines.append("")
    return "\n".join([*lines, f"{CAPTION}.", ""])


def _blocks(measured: Sequence[Measured]) -> list[list[tuple[str, dict[str, Evaluation]]]]:
    columns = list(columns_of(measured).items())
    return [columns[start : start + BLOCK] for start in range(0, len(columns), BLOCK)]


def _cells(model: Measured, block: Sequence[tuple[str, Mapping[str, Evaluation]]]) -> list[list[str]]:
    return [_lines(model, found) for _, found in block]


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _header(column: str, found: Mapping[str, Evaluation]) -> str:
    return f"{column} ({max(len(evaluation.correct) for evaluation in found.values())})"


def _label(model: Measured) -> list[str]:
    return [model.name, *(f"  against {name}" for name in model.against)]


def _lines(model: Measured, found: Mapping[str, Evaluation]) -> list[str]:
    if model.name not in found:
        return [""]
    figures = _figures(found[model.name])
    level = f"{100 * figures['accuracy']:.1f} ({100 * figures['low']:.1f} - {100 * figures['high']:.1f})"
    return [level, *(_change_text(change) for _, change in _paired(model, found))]


def _change_text(change: Change | None) -> str:
    if change is None:
        return "no item in common"
    interval = f"({100 * change.low:+.1f}, {100 * change.high:+.1f})"
    return f"{100 * change.difference:+.1f} {interval} +{change.gained} -{change.lost}"


def _paired(model: Measured, found: Mapping[str, Evaluation]) -> Iterator[tuple[str, Change | None]]:
    own = found[model.name]
    for name in model.against:
        shared = name in found and found[name].correct.keys() & own.correct.keys()
        yield name, compare(found[name], own) if shared else None


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    right, items = sum(evaluation.correct.values()), len(evaluation.correct)
    low, high = wilson(right, items)
    return {"items": items, "right": right, "accuracy": right / items, "low": low, "high": high}


def _changes(model: Measured, found: Mapping[str, Evaluation]) -> dict[str, Any]:
    return {
        name: {
            "items": change.items,
            "gained": change.gained,
            "lost": change.lost,
            "change": change.difference,
            "low": change.low,
            "high": change.high,
            "p": change.p,
        }
        for name, change in _paired(model, found)
        if change is not None
    }
