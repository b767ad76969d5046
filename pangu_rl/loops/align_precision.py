"""The gate between two implementations or devices: two sides -> **a table of layers, and the first that differs**.

traces of A and B --errors per layer and gradient--> table
runs of A and B   --losses step by step----------> how far apart
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from pangu_rl.errors import DataError
from pangu_rl.learner.precision.difference import Difference, curves_apart, differences, first_beyond
from pangu_rl.learner.precision.sides import trace_of
from pangu_rl.learner.precision.trace import save_trace
from pangu_rl.monitoring.sinks import read_metrics

METRICS = "metrics.jsonl"
LOSS = "train/loss"
CURVE_LIMIT = 0.01


def align_traces(one: str, other: str, *, tokens: int, limit: float) -> tuple[list[Difference], Difference | None]:
    """All differences, and the first beyond `limit`; raises `DataError` of sides that cannot be compared."""
    found = differences(trace_of(one, tokens), trace_of(other, tokens))
    return found, first_beyond(found, limit)


def keep_trace(side: str, path: Path, tokens: int) -> None:
    """Write the trace of `side`, to be compared on another machine."""
    save_trace(trace_of(side, tokens), path)


def align_curves(one: Path, other: Path) -> float:
    """How far the losses of two runs are apart, as a share.

    Raises:
        DataError: a directory without losses, a step that has one on one side alone, or losses of 0 alone.
    """
    left, right = _losses(one), _losses(other)
    if only := sorted(left.keys() ^ right.keys()):
        has, lacks = (one, other) if only[0] in left else (other, one)
        raise DataError(
            f"step {only[0]} has a finite loss in {has} and none in {lacks}, of {len(only)} such: run both as long, "
            "and look at what is not finite"
        )
    return curves_apart(list(left.values()), [right[step] for step in left])


def precision_table(found: Sequence[Difference], limit: float) -> Table:
    """Every layer, and of the gradients those beyond the limit."""
    table = Table(title="Precision", caption=f"limit {limit:g}; MRE is the mean error over the mean size")
    for header in ("entry", "MAE", "MRE", "verdict"):
        table.add_column(header, justify="right" if header.startswith("M") else "left")
    for one in found:
        beyond = one.beyond(limit)
        if beyond or not one.is_gradient:
            table.add_row(one.name, f"{one.mae:.2e}", f"{one.mre:.2e}", "differs" if beyond else "")
    gradients = [one.mre for one in found if one.is_gradient]
    table.add_row(f"{len(gradients)} gradients", "", f"{max(gradients, default=0.0):.2e}", "(the largest)")
    return table


def _losses(run: Path) -> dict[int, float]:
    """Step -> loss, where it is finite."""
    file = run / METRICS
    rows: list[dict[str, Any]] = read_metrics(file) if file.is_file() else []
    losses = {row["step"]: row[LOSS] for row in rows if row.get(LOSS) is not None}
    if not losses:
        raise DataError(f"{file}: has no {LOSS}: name the directory of a training run")
    return losses
