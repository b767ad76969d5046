"""Figures of benchmarks -> **a table** with intervals, and what could not be read, scored or asked beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

COUNTS = ("unread", "judged", "no_verdict", "incomplete", "left_out")
"""Shown where a benchmark has some: eighty columns hold the names and figures of all."""


def benchmark_table(results: Sequence[dict[str, Any]]) -> Table:
    """Of `title`, `split`, `figure` (value, low, high, unit, items, counts), `left_out`, `categories`."""
    counts = [name for name in COUNTS if any(_counts(result).get(name) for result in results)]
    caption = "95 % intervals: Wilson for shares of right answers, else bootstrap over questions or their pictures"
    if audited := sum(result["figure"]["audited"] for result in results):
        agreed = sum(result["figure"]["agreed"] for result in results)
        caption += f"; the judge comes to the rules' verdict on {agreed} of {audited} answers that both read"
    table = Table(
        title="Benchmarks",
        caption=caption,
        box=SIMPLE_HEAD,
    )
    table.add_column("benchmark", no_wrap=True)
    for header in ("items", "figure", *(name.replace("_", " ") for name in counts)):
        table.add_column(header, justify="right", no_wrap=True)
    for result in results:
        table.add_section()
        title = f"{result['title']} {result['split']}"
        table.add_row(title, *_cells(result["figure"], counts, _counts(result)), style="bold")
        categories = result["categories"] if len(result["categories"]) > 1 else {}
        for name, figure in categories.items():
            table.add_row(f"  {name}", *_cells(figure, counts, figure), style="dim")
    return table


def _counts(result: dict[str, Any]) -> dict[str, Any]:
    return result["figure"] | {"left_out": result["left_out"]}


def _cells(figure: dict[str, Any], counts: Sequence[str], values: dict[str, Any]) -> list[str]:
    value, low, high = (f"{figure[key]:.1f}" for key in ("value", "low", "high"))
    shown = (str(values.get(name, "")) for name in counts)
    return [str(figure["items"]), f"{value} ({low} - {high}) {figure['unit']}", *shown]
