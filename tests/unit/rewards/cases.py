"""The rows of `tests/data/{verifier,more}_cases.jsonl`, with what stands for long texts written out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from rewards.rules.gold import Gold
from tests.contracts.source_tree import ROOT

_REPEAT = re.compile(r"<<REP\|(.*?)\|(\d+)>>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    """One row: what `prediction` must be worth against `gold`."""

    id: str
    category: str
    prediction: str
    gold: Gold
    expected: bool


def verifier_cases() -> list[Case]:
    """All rows of the given set."""
    return _cases("verifier_cases.jsonl")


def more_cases() -> list[Case]:
    """All rows of our own: the same categories, both ways."""
    return _cases("more_cases.jsonl")


def hostile_cases() -> list[Case]:
    """The rows that attack the grader."""
    return [case for case in verifier_cases() if case.category == "hostile"]


def _cases(name: str) -> list[Case]:
    lines = (ROOT / "tests/data" / name).read_text(encoding="utf-8").splitlines()
    return [_case(json.loads(line)) for line in lines]


def _case(row: dict[str, Any]) -> Case:
    size = row.get("image_size")
    gold = Gold(
        row["gold"],
        row["answer_type"],
        tuple(row.get("choices", ())),
        row.get("metric"),
        row.get("coordinates", "pixel"),
        (size[0], size[1]) if size else None,
    )
    return Case(row["id"], row["category"], _written_out(row["prediction"]), gold, row["expected"])


def _written_out(text: str) -> str:
    return _REPEAT.sub(lambda match: match[1] * int(match[2]), text)
