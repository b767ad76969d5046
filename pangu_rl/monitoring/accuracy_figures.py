"""An `Evaluation` -> **its figures for machines**: items, accuracy and 95 % interval, of the whole and per source."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pangu_rl.monitoring.intervals import wilson
from pangu_rl.records import Evaluation


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """`items`, `accuracy`, `low`, `high` of a set and of its `sources`."""
    by_source: dict[str, list[bool]] = {}
    for uid, right in evaluation.correct.items():
        by_source.setdefault(evaluation.sources[uid], []).append(right)
    sources = {source: share(verdicts) for source, verdicts in sorted(by_source.items())}
    return share(evaluation.correct.values()) | {"sources": sources}


def share(verdicts: Collection[bool]) -> dict[str, float]:
    """`items`, `accuracy`, and Wilson's interval `low` to `high`."""
    low, high = wilson(sum(verdicts), len(verdicts))
    return {"items": len(verdicts), "accuracy": sum(verdicts) / len(verdicts), "low": low, "high": high}
