"""Evaluations of a pipeline's models -> **table.png**: accuracy over the stages, a panel per set and category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pangu_rl.monitoring.intervals import wilson
from pangu_rl.monitoring.stage_table import Measured, columns_of
from pangu_rl.records import Evaluation

COLUMNS = 3
CAPTION = "95 % intervals (Wilson); lines go from a model to those that were made from it; diamonds are means"


def plot_stages(measured: Sequence[Measured], path: Path) -> None:
    """Draw `path`."""
    columns = columns_of(measured)
    wide = min(COLUMNS, len(columns))
    high = -(-len(columns) // wide)
    figure = Figure(figsize=(max(4.2, 0.55 * len(measured) + 1.4) * wide, 3.3 * high + 0.4), layout="constrained")
    for index, (column, found) in enumerate(columns.items()):
        _panel(figure.add_subplot(high, wide, index + 1), column, found, measured)
    figure.supxlabel(CAPTION, fontsize=8)
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, column: str, found: Mapping[str, Evaluation], measured: Sequence[Measured]) -> None:
    place = {model.name: position for position, model in enumerate(measured)}
    for model in measured:
        if model.name not in found:
            continue
        accuracy, low, high = _percent(found[model.name])
        for name in model.against:
            if name in found:
                line = (place[name], place[model.name]), (_percent(found[name])[0], accuracy)
                axes.plot(*line, color="tab:blue", linewidth=1.3, alpha=0.6)
        merged = len(model.against) > 1
        axes.errorbar(
            place[model.name],
            accuracy,
            yerr=[[accuracy - low], [high - accuracy]],
            fmt="D" if merged else "o",
            color="tab:orange" if merged else "tab:blue",
            markersize=5,
            capsize=3,
            linewidth=1.2,
        )
    items = max(len(evaluation.correct) for evaluation in found.values())
    axes.set_title(f"{column} ({items})", fontsize=10)
    axes.set_ylabel("accuracy, %", fontsize=8)
    axes.set_xticks(range(len(measured)), [model.name for model in measured], rotation=40, ha="right", fontsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _percent(evaluation: Evaluation) -> tuple[float, float, float]:
    right, items = sum(evaluation.correct.values()), len(evaluation.correct)
    low, high = wilson(right, items)
    # At 0 and at 100 % an end of the interval is the accuracy itself, but for rounding.
    return 100 * right / items, 100 * min(low, right / items), 100 * max(high, right / items)
