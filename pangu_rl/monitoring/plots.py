"""metrics.jsonl -> **curves.png**: one picture that says whether a run learns, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pangu_rl.monitoring.panels import Panel, panels_of
from pangu_rl.monitoring.sinks import METRICS, read_metrics

Rows = Sequence[Mapping[str, Any]]

_SMOOTH = 5


def plot_curves(run_dir: Path) -> Path | None:
    """Draw `run_dir/curves.png` from its metrics; a panel without data is left out, None without any."""
    sections = panels(read_metrics(Path(run_dir) / METRICS))
    draws = [draw for section in sections.values() for draw in section.values()]
    if not draws:
        return None
    columns = min(3, len(draws))
    lines = -(-len(draws) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.1 * lines), layout="constrained")
    figure.suptitle(Path(run_dir).name)
    for index, draw in enumerate(draws):
        draw(figure.add_subplot(lines, columns, index + 1))
    path = Path(run_dir) / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def panels(rows: Rows) -> dict[str, dict[str, Callable[[Axes], None]]]:
    """Section -> title of each panel that `rows` have data for -> what draws it."""
    present = {name for row in rows for name, value in row.items() if value is not None}
    return {
        section: {panel.title: (_stack if panel.stacked else _curves)(panel, rows) for panel in found}
        for section, found in panels_of(present).items()
    }


def _dress(axes: Axes, title: str, unit: str, rows: Rows) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_ylabel(unit, fontsize=9)
    axes.set_xlabel("step")
    axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, rows[-1]["step"] + 1)


def _curves(panel: Panel, rows: Rows) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for label, name in panel.curves.items():
            steps, values = _series(rows, name)
            smooth = panel.smooth and len(values) > 2 * _SMOOTH
            marker = "o" if len(values) < 15 else None
            (line,) = axes.plot(
                steps, values, marker=marker, markersize=3, linewidth=1.4, alpha=0.3 if smooth else 1.0, label=label
            )
            if smooth:
                line.set_label("_step")
                mean = f"mean of {_SMOOTH} steps" if len(panel.curves) == 1 else label
                axes.plot(steps, running_mean(values), color=line.get_color(), linewidth=2, label=mean)
        if len(panel.curves) > 1 or panel.smooth or panel.legend:
            axes.legend(frameon=False, fontsize=8)
        if panel.zero:
            axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
        _dress(axes, panel.title, panel.unit, rows)

    return draw


def _stack(panel: Panel, rows: Rows) -> Callable[[Axes], None]:
    longest_first = sorted(panel.curves.items(), key=lambda curve: _total(rows, curve[1]), reverse=True)

    def draw(axes: Axes) -> None:
        steps = [row["step"] for row in rows]
        below = [0.0] * len(rows)
        for label, name in longest_first:
            seconds = [row.get(name) or 0.0 for row in rows]
            axes.bar(steps, seconds, bottom=below, width=1.0, alpha=0.85, label=label)
            below = [low + height for low, height in zip(below, seconds, strict=True)]
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
        axes.set_ylim(0, max(below) * 1.3 or 1.0)
        _dress(axes, panel.title, panel.unit, rows)

    return draw


def _series(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _total(rows: Rows, name: str) -> float:
    return sum(row.get(name) or 0.0 for row in rows)


def running_mean(values: Sequence[float], width: int = _SMOOTH) -> list[float]:
    """Mean of the last `width` values, of fewer at the start."""
    return [sum(values[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(values))]
