"""Operators of a pipeline -> **stages**: what one pass over the rows does.

A stage ends where the cost changes, and at a set operator, whose features are read in that pass; what it decides is
applied as the next one begins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_curation.pipeline.operator import Cost, Operator

VERSION = 4
"""Of what lies in a folder of output; another one is worked anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    number: int
    operators: tuple[Operator, ...]
    """Row operators of one cost."""
    decided: Operator | None
    """The set operator before it, whose verdicts it applies first."""
    closing: Operator | None
    """The set operator behind it, whose features it reads."""
    last: bool

    @property
    def cost(self) -> Cost:
        costs = [operator.cost for operator in (*self.operators, *((self.closing,) if self.closing else ()))]
        return costs[0] if costs else "cpu"

    def identity(self) -> dict[str, Any]:
        """What decides its results, beside those of the stage before it."""
        return {
            "operators": [operator.identity() for operator in self.operators],
            "closing": self.closing.identity() if self.closing else None,
            "last": self.last,
        }


def stages_of(operators: Sequence[Operator]) -> list[Stage]:
    groups: list[tuple[list[Operator], Operator | None]] = []
    open_group: list[Operator] = []
    for operator in operators:
        if open_group and open_group[0].cost != operator.cost:
            groups.append((open_group, None))
            open_group = []
        if operator.over_all:
            groups.append((open_group, operator))
            open_group = []
        else:
            open_group.append(operator)
    if open_group or not groups or groups[-1][1] is not None:
        groups.append((open_group, None))
    closings = [None, *(closing for _, closing in groups)]
    return [
        Stage(
            number=number,
            operators=tuple(group),
            decided=closings[number],
            closing=closing,
            last=number == len(groups) - 1,
        )
        for number, (group, closing) in enumerate(groups)
    ]


def digests(stages: Sequence[Stage], inputs: Any) -> list[str]:
    """Of each stage, that of all before it in it: equal digests are equal results."""
    found, before = [], json.dumps(inputs, sort_keys=True)
    for stage in stages:
        whole = json.dumps([before, stage.identity()], sort_keys=True, default=str)
        before = hashlib.sha256(whole.encode()).hexdigest()
        found.append(before)
    return found
