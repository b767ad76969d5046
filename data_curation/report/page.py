"""A run of a pipeline -> **report.html**: one file without scripts or links, for a browser without a network.

What set operators found of all rows stands whole in `figures.json` beside it, for programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_curation.pipeline.counted import Summary
from data_curation.pipeline.folder import write_json
from data_curation.report.pictures import thumbnails
from data_curation.report.samples import read_samples, text_of_row
from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.pages.rendered import rendered
from pangu_rl.pages.shown_text import one_line, shown

NAME = "report.html"
FIGURES = "figures.json"
BINS = 24
CHARS = 900
TABLE_ROWS = 200
CELL_ITEMS = 40


@dataclass(frozen=True, slots=True)
class Card:
    uid: str
    detail: str
    text: str
    pictures: list[tuple[str | None, str]]


def write_report(summary: Summary, title: str, media_root: Path | None, problem: str = "") -> Path:
    """Write the page of the run in `summary.output`; `problem` is why it ended before its end."""
    root = Path(summary.output)
    samples = read_samples(root)
    values = {
        "title": title,
        "problem": shown(problem),
        "summary": summary,
        "rows_in": summary.tallies[0].rows_in if summary.tallies else 0,
        "tables": {name: table_of(rows) for name, rows in summary.told.items()},
        "histograms": [
            (tally.name, name, histogram(measured))
            for tally in summary.tallies
            for name, measured in tally.values.items()
            if len(set(measured)) > 1
        ],
        "aside": {
            name: {
                reason: [card(line["row"], media_root, line["detail"]) for line in lines]
                for reason, lines in reasons.items()
            }
            for name, reasons in samples.aside.items()
        },
        "pairs": [
            (card(line["row"], media_root, f"{line['operator']}: {line['detail']}"), card(row, media_root))
            for line, row in samples.pairs
        ],
        "kept": [card(row, media_root) for row in samples.kept],
    }
    write_json(root / FIGURES, summary.told)
    write_whole(root / NAME, rendered(__package__, values))
    return root / NAME


def table_of(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The header, then a line for each of the first `TABLE_ROWS`; what a row lacks is a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [columns, *([_cell(row.get(name, "-")) for name in columns] for row in rows[:TABLE_ROWS])]


def _cell(value: Any) -> str:
    """A list of names with their numbers, or one value."""
    if isinstance(value, list):
        value = ", ".join(f"{name} {number}" for name, number in value[:CELL_ITEMS])
    return one_line(str(value))


def card(row: dict[str, Any], media_root: Path | None, detail: str = "") -> Card:
    text = shown(text_of_row(row), CHARS, 0)
    return Card(one_line(str(row.get("id", ""))), one_line(detail), text, thumbnails(row, media_root))


def histogram(values: Sequence[float]) -> dict[str, Any]:
    """Bars of 0 to 100, with the least and the greatest value."""
    low, high = min(values), max(values)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1
    most = max(counts)
    return {"low": low, "high": high, "bars": [100 * count / most for count in counts], "count": len(values)}
