"""Figures of benchmarks -> **a table** with intervals, and what could not be read, scored or asked beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

HEADERS = ("benchmark", "split", "items", "figure", "unread", "no verdict", "left out")


def benchmark_table(results: Sequence[dict[str, Any]]) -> Table:
    """Of `title`, `split`, `figure` (value, low, high, unit, items, unread, no_verdict), `left_out`, `categories`."""
    table = Table(
        title="Benchmarks",
        caption="95 % intervals: Wilson for shares of right answers, else bootstrap over questions or their pictures",
    )
    for header in HEADERS:
        table.add_column(header, justify="left" if header in HEADERS[:2] else "right", no_wrap=True)
    for result in results:
        table.add_section()
        table.add_row(*_cells(result["title"], result["split"], result["figure"], result["left_out"]), style="bold")
        categories = result["categories"] if len(result["categories"]) > 1 else {}
        for name, figure in categories.items():
            table.add_row(*_cells(f"  {name}", "", figure, None), style="dim")
    return table


def _cells(title: str, split: str, figure: dict[str, Any], left_out: int | None) -> list[str]:
    value, low, high = (f"{figure[key]:.1f}" for key in ("value", "low", "high"))
    counts = [str(figure["unread"]), str(figure["no_verdict"]), "" if left_out is None else str(left_out)]
    return [title, split, str(figure["items"]), f"{value} ({low} - {high}) {figure['unit']}", *counts]
