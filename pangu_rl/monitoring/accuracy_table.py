"""held-out `Evaluation`s -> **a table**: accuracy with its interval, and the paired change from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from pangu_rl.monitoring.intervals import mcnemar, paired_difference, wilson
from pangu_rl.records import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of the items that two evaluations share."""

    items: int
    gained: int
    lost: int
    low: float
    high: float
    """95 % interval of the change in accuracy."""
    p: float
    """Exact McNemar p-value of no change."""

    @property
    def difference(self) -> float:
        return (self.gained - self.lost) / self.items


def compare(before: Evaluation, after: Evaluation) -> Change:
    """Paired over the items that both have a verdict on."""
    shared = before.correct.keys() & after.correct.keys()
    gained = sum(after.correct[uid] and not before.correct[uid] for uid in shared)
    lost = sum(before.correct[uid] and not after.correct[uid] for uid in shared)
    low, high = paired_difference(gained, lost, len(shared))
    return Change(items=len(shared), gained=gained, lost=lost, low=low, high=high, p=mcnemar(gained, lost))


def accuracy_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row per evaluation, in the order of the run; its sources follow below it."""
    table = Table(
        title="Held-out accuracy, %", caption="95 % intervals: Wilson; change in points, paired by item; p: McNemar"
    )
    for header in ("weights", "items", "accuracy", "change", "p"):
        table.add_column(header, justify="left" if header == "weights" else "right", no_wrap=True)
    for cells, is_source in accuracy_rows(evaluations):
        if not is_source:
            table.add_section()
        table.add_row(*cells, style="dim" if is_source else "bold")
    return table


def accuracy_rows(evaluations: Sequence[Evaluation]) -> list[tuple[list[str], bool]]:
    """Cells of `accuracy_table` (weights, items, accuracy, and from the second on change and p), and whether the row
    is one source of the evaluation above it."""
    rows = []
    previous = None
    for evaluation in evaluations:
        rows.append((_row(evaluation.name, evaluation, previous), False))
        sources = sorted(set(evaluation.sources.values()))
        for source in sources if len(sources) > 1 else []:
            before = of_source(previous, source) if previous else None
            rows.append((_row(f"  {source}", of_source(evaluation, source), before), True))
        previous = evaluation
    return rows


def _row(label: str, evaluation: Evaluation, previous: Evaluation | None) -> list[str]:
    total = len(evaluation.correct)
    low, high = wilson(sum(evaluation.correct.values()), total)
    row = [label, str(total), f"{100 * evaluation.accuracy:.1f} ({100 * low:.1f} - {100 * high:.1f})"]
    if previous is None or not previous.correct.keys() & evaluation.correct.keys():
        return row
    change = compare(previous, evaluation)
    points = f"{100 * change.difference:+.1f} ({100 * change.low:+.1f}, {100 * change.high:+.1f})"
    return [*row, points, f"{change.p:.0e}" if change.p < 0.01 else f"{change.p:.2f}"]


def of_source(evaluation: Evaluation, source: str) -> Evaluation:
    """The part of it that has this source."""
    correct = {uid: right for uid, right in evaluation.correct.items() if evaluation.sources.get(uid) == source}
    return Evaluation(name=evaluation.name, step=evaluation.step, correct=correct)
