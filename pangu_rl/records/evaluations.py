"""Verdicts on a held-out set after a step."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Greedy accuracy on held-out prompts under one set of weights."""

    name: str
    step: int
    correct: dict[str, bool]
    """Prompt uid -> correct; paired comparisons need the items, not the mean."""
    sources: dict[str, str] = field(default_factory=dict)
    """Prompt uid -> source."""

    @property
    def accuracy(self) -> float:
        return sum(self.correct.values()) / len(self.correct)
