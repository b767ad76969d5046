"""Drawn places whose own answers are right, and the tables of ablations and stages, worked by hand."""

from __future__ import annotations

import json
from random import Random

import pytest

from benchmarks.learning import ablation, stage_blocks
from benchmarks.learning.drawn_places import DRAWN, clockwise, write_places
from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.prompts import parse_prompt
from pangu_rl.monitoring.intervals import wilson
from pangu_rl.records import Evaluation, Outcome
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold


@pytest.mark.parametrize("task", DRAWN)
def test_what_is_said_of_a_drawn_picture_is_right(task: str) -> None:
    rng = Random(0)
    for _ in range(50):
        picture, asked, said, gold = DRAWN[task](rng)
        part = grade_directly(said, Gold(gold["answer"], gold["answer_type"], coordinates=gold["coordinates"]))
        assert part.outcome is Outcome.CORRECT, part
        assert asked and len(set(picture.getdata())) > 1, "something is drawn on the ground"


def test_drawn_rows_are_read_by_the_stages_that_take_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.learning.drawn_places.SPLITS", {"sft": 3, "train": 2, "heldout": 1})
    write_places(tmp_path, seed=0)
    for task in DRAWN:
        for split, count in (("sft", 3), ("train", 2), ("heldout", 1)):
            rows = list(map(json.loads, (tmp_path / f"{task}_{split}.jsonl").read_text().splitlines()))
            read = [(parse_conversation if split == "sft" else parse_prompt)(row, row["id"]) for row in rows]
            assert len(read) == count and all(len(one.images) == 1 for one in read)


def test_corners_begin_at_the_upper_left_and_go_around() -> None:
    assert clockwise([(9, 1), (8, 9), (0, 8), (1, 0)]) == [(1, 0), (9, 1), (8, 9), (0, 8)]


def evaluation(name: str, **right: bool) -> Evaluation:
    sources = dict(zip(right, ("box", "box", "box", "clip"), strict=True))
    return Evaluation(name=name, step=1, correct=right, sources=sources)


def test_variants_are_compared_by_question() -> None:
    """One of four gains and none loses: +25 points."""
    variants = {
        "first": [evaluation("heldout", a=True, b=False, c=False, d=True)],
        "other": [evaluation("heldout", a=True, b=True, c=False, d=True)],
    }
    head, _, whole, boxes, clips, *_ = ablation.table(variants)
    low, high = (100 * bound for bound in wilson(3, 4))
    assert head == "| set (items) | first | other |"
    assert f"75.0 ({low:.1f} - {high:.1f}), +25.0 (" in whole and whole.startswith("| heldout (4) | 50.0 (")
    assert boxes.startswith("| heldout: box (3) | 33.3 (") and "+33.3 (" in boxes
    assert clips.startswith("| heldout: clip (1) | 100.0 (") and "+0.0 (" in clips


def test_blocks_of_a_stage_and_their_mean() -> None:
    """Two of three boxes and one video of one: 66.7 and 100, whose mean is 83.3; blank ones stand behind."""
    sources = {"a": "grounding", "b": "grounding", "c": "grounding", "d": "video"}
    shown, blank = (
        Evaluation(name=name, step=1, correct=dict.fromkeys("abcd", right) | {"a": False}, sources=sources)
        for name, right in (("pictures", True), ("blank", False))
    )
    lines = list(stage_blocks.table({"sft": {"blank": blank, "pictures": shown}}))
    cells = lines[2].strip("| ").split(" | ")
    assert cells[0] == "sft" and cells[-1] == "83.3" and cells.count("-") == len(stage_blocks.BLOCKS) - 2
    assert cells[6].startswith("66.7 (") and cells[10].startswith("100.0 (")
    assert lines[3].startswith("| sft, blank | ") and lines[3].endswith(" 0.0 |")
