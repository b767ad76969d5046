"""Losses of past steps -> **whether this one is a spike** -> log and metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import isfinite
from statistics import median

WINDOW = 100
FIRST = 10
"""So many steps are seen before any is judged."""


class SpikeWatch:
    """Compares a loss with the median of the last hundred."""

    def __init__(self, factor: float | None) -> None:
        """`factor`: how many times the median is a spike; None judges nothing."""
        self._factor = factor
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def judge(self, loss: float) -> float | None:
        """The median if `loss` is a spike over it, or is no finite number; else None. Of a spike the median of so many
        takes no notice, and what lasts becomes usual."""
        usual = median(self._losses) if len(self._losses) >= FIRST else None
        if isfinite(loss):
            self._losses.append(loss)
        is_spike = self._factor is not None and usual is not None and not loss <= self._factor * usual
        return usual if is_spike else None

    def state_dict(self) -> list[float]:
        return list(self._losses)

    def load_state_dict(self, losses: Sequence[float]) -> None:
        self._losses = deque(losses, maxlen=WINDOW)
