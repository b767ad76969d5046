"""Rows of benchmarks whose own gold would earn nothing: found before anything is asked."""

from __future__ import annotations

from pangu_rl.records import Prompt
from rewards.audit import gold_problem
from rewards.mathematics.guard import Refused
from rewards.metrics.benchmark import METRICS
from rewards.metrics.instructions import instructions_problem
from rewards.recipe.accuracy import boxed_accuracy
from rewards.rules.verdict import short


def benchmark_problem(prompt: Prompt) -> str | None:
    """Why a row cannot be scored, or None."""
    name = prompt.extra["scored_by"]
    if name == "instructions":
        return instructions_problem(prompt.extra["instructions"], prompt.extra["arguments"])
    if name == "boxed":
        return gold_problem(prompt, boxed_accuracy)
    try:
        part = METRICS[name](prompt.answer, prompt)
    except Refused as refused:
        return f"the gold {short(prompt.answer)} {refused}"
    return None if part.value else f"the gold {short(prompt.answer)} does not score: {part.detail}"
