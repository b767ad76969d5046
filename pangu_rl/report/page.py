"""A run directory -> **report.html**: one file without scripts or links, which a browser shows without the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.errors import RunError
from pangu_rl.monitoring.accuracy_table import accuracy_rows
from pangu_rl.monitoring.live import duration, number
from pangu_rl.pages.rendered import rendered
from pangu_rl.pages.shown_text import conversation, one_line, shown
from pangu_rl.report.curves import curves, histogram
from pangu_rl.report.drawn_boxes import Thumbnail, thumbnails
from pangu_rl.report.facts import phases, ranges, read_facts, sources
from pangu_rl.report.rollouts import Rollouts, read_rollouts
from pangu_rl.whole_file import whole_file

NAME = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One rollout as the page shows it; every text has passed `shown`."""

    row: Mapping[str, Any]
    messages: list[tuple[str, str]]
    text: str
    gold: str
    parts: list[tuple[str, float | None, str, str]]
    """Name, value, outcome, detail."""
    votes: list[str]
    pictures: list[Thumbnail]


def write_report(run_dir: Path, output: Path | None = None, per_sheet: int = 6) -> Path:
    """Write the page of `run_dir` to `output`, by default `run_dir/report.html`; whole, or not at all.

    Raises:
        DataError: no run there, or files that no run wrote. RunError: the page cannot be written.
    """
    page = render(run_dir, per_sheet).encode("utf-8")
    target = output or run_dir / NAME
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as partial:
            partial.write_bytes(page)
    except OSError as error:
        raise RunError(f"{target}: the report ({len(page):,} bytes) cannot be written: {error.strerror}") from None
    return target


def render(run_dir: Path, per_sheet: int) -> str:
    """The page as HTML."""
    facts = read_facts(run_dir)
    rollouts = read_rollouts(run_dir, per_sheet)
    values = {
        "facts": facts,
        "curves": curves(facts.metrics) if facts.metrics else {},
        "evaluations": accuracy_rows(facts.evaluations),
        "phases": phases(facts.metrics),
        "sources": sources(facts.metrics),
        "ranges": ranges(facts.metrics),
        "counts": rollouts.counts if rollouts else None,
        "lengths": histogram("Lengths of all completions", "tokens", rollouts.counts.lengths) if rollouts else None,
        "sheets": _sheets(rollouts, run_dir / "rollouts") if rollouts else {},
    }
    filters = {"number": number, "duration": duration, "shown": shown, "line": one_line}
    return rendered(__package__, values, filters)


def _sheets(rollouts: Rollouts, folder: Path) -> dict[str, list[Card]]:
    return {title: [card(row, folder) for row in rows] for title, rows in rollouts.sheets.items() if rows}


def card(row: Mapping[str, Any], folder: Path) -> Card:
    votes = json.loads(row["scorer_votes"]) if row.get("scorer_votes") else []
    return Card(
        row=row,
        messages=conversation(row["messages"]),
        text=shown(row["text"]),
        gold=one_line(row["gold"]),
        parts=[(one_line(p["name"], 60), p["value"], p["outcome"], one_line(p["detail"])) for p in row["parts"]],
        votes=[one_line(f"{v['scorer']}, {v['criterion']}: {v['score']}. {v['reason']}") for v in votes],
        pictures=thumbnails(row, folder),
    )
