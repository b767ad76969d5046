"""Optimiser steps that a gradient which is not finite left out: **counted, and in the end the end of the run**."""

from __future__ import annotations

from pangu_rl.errors import RunError


class SkippedSteps:
    """How many were left out in a row, the same on every rank."""

    def __init__(self, limit: int, way_out: str) -> None:
        """Up to `limit` are borne; `way_out` ends the sentence that says what to do about more."""
        self._limit, self._way_out = limit, way_out
        self.in_a_row = 0

    def took(self, skipped: bool) -> dict[str, float]:
        """The metric `skipped` of a step: 1 when it left the weights as they were.

        Raises:
            RunError: it was one too many.
        """
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        if self.in_a_row > self._limit:
            raise RunError(
                f"the gradient was not finite in {self.in_a_row} steps in a row "
                f"(learner.nonfinite_limit {self._limit}): {self._way_out}"
            )
        return {"skipped": float(skipped)}
