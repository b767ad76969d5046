"""A step that was left out for a gradient that is not finite: **which rows it had**, in the run's log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

log = logging.getLogger(__name__)


def log_skipped(step: int, skipped: float, rows: Iterable[str]) -> None:
    """`skipped` is the learner's metric, of several updates the share; `rows` are named by their ids, all of them."""
    if skipped:
        log.warning("step %d: a gradient was not finite, the weights stay; its rows: %s", step, ", ".join(rows))
