"""Predictions -> **table, recommendation, JSON and picture**."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from pangu_rl.simulation.loop import LEARNER, Span
from pangu_rl.simulation.placements import Prediction

PHASES = ("rollout", "wait", "reward", "switch", "train", "sync")
COLOURS = {"rollout": "tab:blue", "train": "tab:orange", "sync": "tab:green", "switch": "tab:purple"}
ROWS = 8
"""Engines that a panel of the picture shows: the one that draws least, the one that draws most, and some between."""


def plan_table(found: Sequence[Prediction]) -> Table:
    """A column for each placement: devices, seconds of a step by phase, idle shares, memory."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.split.name.replace(", ", "\n") + (" *" if one.problems else ""), justify="right")
    table.add_row("engines", *(str(one.split.engines) for one in found))
    table.add_row("learner ranks", *(str(one.split.ranks) for one in found), end_section=True)
    table.add_row("seconds a step", *(_seconds(one.steps.step_s) for one in found), style="bold")
    for name in PHASES:
        if any(one.steps.phases.get(name) for one in found):
            cells = (_seconds(one.steps.phases[name]) if name in one.steps.phases else "-" for one in found)
            table.add_row(f"  {name}", *cells)
    table.add_row("tokens a second", *(f"{one.steps.tokens_per_s:,.0f}" for one in found))
    table.add_row("engines idle", *(f"{one.steps.engines_idle:.0%}" for one in found))
    table.add_row("learner idle", *(f"{one.steps.learner_idle:.0%}" for one in found))
    table.add_row("versions old, mean", *(f"{one.steps.lag:.1f}" for one in found))
    table.add_row("engine, GiB a device", *(f"{one.engine_gib:.1f}" for one in found))
    table.add_row("rank, GiB a device", *(_gib(one.learner_gib) for one in found))
    table.add_row("rank, GiB of the host", *(_gib(one.host_gib) for one in found))
    return table


def _gib(size: float | None) -> str:
    return "-" if not size else f"{size:.1f}"


def problems(found: Sequence[Prediction]) -> list[str]:
    """What does not fit, once for each placement that is marked in the table."""
    return [f"* {one.split.name}: {problem}" for one in found for problem in one.problems]


def recommendation(chosen: Prediction | None, staleness: int) -> str:
    """One line: the settings of the fastest placement that fits at this staleness or less."""
    if chosen is None:
        return "no placement fits: a model or packs that hold less, more ranks, or offload"
    split = chosen.split
    settings = [f"rollout.actors={split.engines}", f"learner.ranks={split.ranks}"]
    settings += ["rollout.placement=shared"] if split.shared else []
    settings += [f"trainer.max_staleness={split.staleness}"] if split.staleness or staleness else []
    return f"fastest up to staleness {staleness}: {' '.join(settings)}, {_seconds(chosen.steps.step_s)} s a step"


def plan_json(found: Sequence[Prediction], chosen: Prediction | None) -> dict[str, Any]:
    rows = [_without_spans(one) for one in found]
    return {"placements": rows, "recommended": None if chosen is None else _without_spans(chosen)}


def _without_spans(one: Prediction) -> dict[str, Any]:
    row = asdict(one)
    del row["steps"]["spans"]
    return row | {"name": one.split.name, "tokens_per_s": one.steps.tokens_per_s}


def draw(found: Sequence[Prediction], path: Path) -> None:
    """Who does what when: a panel for each placement on one axis of time. One step of those in turn, two of the steady
    state of stale ones."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    heights = [1 + len(_rows(one.steps.spans)) for one in found]
    figure = Figure(figsize=(11, 0.6 + 0.2 * sum(heights) + 0.5 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, one in zip(grid[:, 0], found, strict=True):
        rows = _rows(one.steps.spans)
        for span in one.steps.spans:
            if span.row in rows:
                place = (rows.index(span.row) - 0.4, 0.8)
                axes.broken_barh([(span.start, span.end - span.start)], place, color=COLOURS[span.phase])
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(
            f"{one.split.name}: {one.split.engines} engines, {one.split.ranks} ranks, {_seconds(one.steps.step_s)} s a "
            f"step; engines idle {one.steps.engines_idle:.0%}, learner {one.steps.learner_idle:.0%}",
            fontsize=9,
            loc="left",
        )
    grid[-1, 0].set_xlabel("seconds")
    used = {span.phase for one in found for span in one.steps.spans}
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items() if name in used]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def _rows(spans: Sequence[Span]) -> list[str]:
    """The learner, and at most `ROWS` engines by the time that they draw."""
    drawing: dict[str, float] = {}
    for span in spans:
        if span.row != LEARNER:
            drawing[span.row] = drawing.get(span.row, 0.0) + (span.end - span.start) * (span.phase == "rollout")
    engines = sorted(drawing, key=lambda row: drawing[row])
    chosen = np.unique(np.linspace(0, len(engines) - 1, ROWS).round().astype(int))
    return [LEARNER, *(engines[index] for index in chosen)]


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
