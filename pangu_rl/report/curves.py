"""metrics rows -> **curves as SVG data URIs**, of a size that does not grow with the run."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pangu_rl.monitoring.plots import panels
from pangu_rl.report.thinned import Rows, thinned

_SVG = {"svg.hashsalt": "pangu_rl", "svg.fonttype": "path"}
"""The same rows give the same bytes, and no font of the reader's machine is asked for."""


def curves(rows: Rows) -> dict[str, dict[str, str]]:
    """Section -> title of a panel -> its picture."""
    sections = panels(thinned(rows))
    return {section: {title: drawn(draw) for title, draw in draws.items()} for section, draws in sections.items()}


def histogram(title: str, unit: str, counts: Sequence[int]) -> str:
    """Bars of `counts[value]`, in at most 60 bins."""
    width = -(-len(counts) // 60)
    bins = [sum(counts[start : start + width]) for start in range(0, len(counts), width)]

    def draw(axes: Axes) -> None:
        axes.bar([i * width for i in range(len(bins))], bins, width=width, align="edge", alpha=0.85)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(unit)
        axes.set_ylabel("completions", fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)

    return drawn(draw)


def drawn(draw: Callable[[Axes], None]) -> str:
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    draw(figure.add_subplot())
    buffer = io.BytesIO()
    with matplotlib.rc_context(_SVG):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
