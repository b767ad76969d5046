"""Answers beside golds in the spellings that models use: what is right stays right, what is wrong stays wrong.

Algebra runs in this process: the guard makes these rows safe.
"""

from __future__ import annotations

import json

import pytest

from pangu_rl.records import Outcome
from rewards.rules.dispatch import grade_by_algebra
from rewards.rules.gold import Gold
from tests.contracts.source_tree import ROOT

LINES = (ROOT / "tests/data/graded_pairs.jsonl").read_text(encoding="utf-8").splitlines()
PAIRS = [json.loads(line) for line in LINES]
KINDS = list(dict.fromkeys(pair["kind"] for pair in PAIRS))


@pytest.mark.parametrize("kind", KINDS)
def test_pairs(kind: str) -> None:
    pairs = [pair for pair in PAIRS if pair["kind"] == kind]
    assert [pair for pair in pairs if _credited(pair["gold"], pair["answer"]) is not pair["right"]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_there_both_ways(kind: str) -> None:
    assert {pair["right"] for pair in PAIRS if pair["kind"] == kind} == {True, False}


def _credited(gold: str, answer: str) -> bool:
    return grade_by_algebra(answer, Gold(gold, "math")).outcome is Outcome.CORRECT
