"""metrics.jsonl of some runs -> **panels of curves side by side**, each of a size that does not grow with the run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pangu_rl.errors import DataError
from pangu_rl.monitoring.panels import Panel, panels_of
from pangu_rl.monitoring.sinks import METRICS, read_metrics
from pangu_rl.report.thinned import Rows, thinned
from rollout.footers import identity


def curves(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Sections, each with its panels; a panel has its curves, and the runs `without` any of its metrics.

    Raises:
        DataError: a metrics.jsonl that is none.
    """
    rows = {name: rows_of(folder) for name, folder in folders.items()}
    present = {
        name: {key for row in found for key, value in row.items() if value is not None} for name, found in rows.items()
    }
    sections = panels_of(set().union(*present.values()))
    return [
        {"section": section, "panels": [_panel(panel, rows, present) for panel in panels]}
        for section, panels in sections.items()
    ]


def rows_of(folder: Path) -> Rows:
    """The thinned rows, read once of each state of the file."""
    path = folder / METRICS
    return _rows(path, identity(path))


@lru_cache(maxsize=64)
def _rows(path: Path, state: tuple[int, ...]) -> Rows:
    try:
        return thinned(read_metrics(path)) if state else []
    except ValueError as error:
        raise DataError(f"{path}: a line is no JSON: {error}") from None


def _panel(panel: Panel, rows: Mapping[str, Rows], present: Mapping[str, set[str]]) -> dict[str, Any]:
    curves = [
        {"run": run, "label": label, "points": [(r["step"], r[name]) for r in found if r.get(name) is not None]}
        for run, found in rows.items()
        for label, name in panel.curves.items()
        if name in present[run]
    ]
    drawn = {curve["run"] for curve in curves}
    return {
        "title": panel.title,
        "unit": panel.unit,
        "zero": panel.zero,
        "smooth": panel.smooth,
        "stacked": panel.stacked,
        "curves": curves,
        "without": [run for run in rows if run not in drawn],
    }
