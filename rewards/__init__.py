"""Completions -> rewards. `from rewards import grade` is the grader alone, in any process, without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewards.grader import Grader, grade
    from rewards.rules.gold import Gold

__all__ = ["Gold", "Grader", "grade"]


def __getattr__(name: str) -> Any:
    """Import what is exported when it is first asked for: a child or a rule alone needs none of it."""
    if name == "Gold":
        from rewards.rules.gold import Gold

        return Gold
    if name in ("Grader", "grade"):
        from rewards import grader

        return getattr(grader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
