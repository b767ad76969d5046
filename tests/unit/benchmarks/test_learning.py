"""Drawn places whose own answers are right, and the tables of ablations and stages, worked by hand."""

from __future__ import annotations

import json
from random import Random

import pytest

from benchmarks.learning import ablation, stage_blocks
from benchmarks.learning.drawn_places import DRAWN, clockwise, write_places
from data_curation.corpus.families import FAMILIES
from data_curation.schema import CATEGORIES
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
    """Two of three boxes, one video of one, one quadrilateral of two, whose source is that of boxes: 66.7, 100 and 50,
    whose mean is 72.2. Controls stand behind; of frames out of order there is one block, and no mean."""
    names = [*(f"grounding-heldout-{n}" for n in "01"), "plain_boxes-heldout-0", *(f"quads-heldout-{n}" for n in "01")]
    sources = dict.fromkeys(names, "grounding") | {"clips-heldout-0": "video"}
    wrong = {"grounding-heldout-0": False, "quads-heldout-0": False}
    shown, blank, shuffled = (
        Evaluation(name=name, step=1, correct=dict.fromkeys(uids, right) | changed, sources=sources)
        for name, uids, right, changed in (
            ("pictures", sources, True, wrong),
            ("blank", sources, False, {}),
            ("shuffled", ["clips-heldout-0"], False, {}),
        )
    )
    lines = list(stage_blocks.table({"sft": {"blank": blank, "shuffled": shuffled, "pictures": shown}}))
    heads, cells = (lines[number].strip("| ").split(" | ") for number in (0, 2))
    found = {head: cell.partition(" ")[0] for head, cell in zip(heads, cells, strict=True)}
    assert found.pop("stage") == "sft" and found.pop(f"mean of {len(stage_blocks.BLOCKS)}") == "72.2"
    assert {head: cell for head, cell in found.items() if cell != "-"} == {
        "grounding: boxes": "66.7", "grounding: quads": "50.0", "video": "100.0",
    }  # fmt: skip
    assert lines[3].startswith("| sft, blank pictures | ") and lines[3].endswith(" 0.0 |")
    assert lines[4].startswith("| sft, frames out of order | - | ") and lines[4].endswith(" 0.0 (0.0 - 79.3) | - |")


def test_every_row_of_the_corpus_is_in_one_block() -> None:
    """Its families that stand apart from their source are families; sources are the corpus' categories."""
    kinds = [kind for some in stage_blocks.BLOCKS.values() for kind in some]
    assert sorted(kinds) == sorted((*CATEGORIES, *stage_blocks.APART))
    assert set(stage_blocks.APART) <= set(FAMILIES)


def test_a_run_is_not_compared_with_itself(tmp_path) -> None:
    for name, losses in {"fixed_train": (2.0, 1.5), "dynamic_train": (2.0, 1.25)}.items():
        (tmp_path / name).mkdir()
        lines = (json.dumps({"step": step, "train/loss": loss}) for step, loss in enumerate(losses, start=1))
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    ablation.require_different(tmp_path)
    (tmp_path / "dynamic_train" / "metrics.jsonl").write_text((tmp_path / "fixed_train" / "metrics.jsonl").read_text())
    with pytest.raises(SystemExit, match="dynamic_train and fixed_train have the same losses at every step"):
        ablation.require_different(tmp_path)
