"""The rows with pictures: splits that share none, answers that grade themselves correct, the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_curation.sources import easy_vqa
from pangu_rl.data.conversations import load_conversations
from pangu_rl.data.prompts import load_prompts
from rewards import grade

SPLITS = ("sft", "train", "heldout", "heldout_blank")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return easy_vqa.prepare(tmp_path_factory.mktemp("data") / "easy_vqa")


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def shown(folder: Path, split: str) -> set[str]:
    return {path for row in rows(folder, split) for path in row["images"]}


def test_no_picture_is_in_two_splits(folder: Path) -> None:
    sft, train, heldout = (shown(folder, split) for split in SPLITS[:3])
    assert min(map(len, (sft, train, heldout))) > 100
    assert not sft & train and not sft & heldout and not train & heldout


def test_every_row_loads_and_names_one_picture_that_is_there(folder: Path) -> None:
    assert len(load_conversations(folder / "sft.jsonl").records) == len(rows(folder, "sft"))
    for split in SPLITS[1:]:
        assert len(load_prompts(folder / f"{split}.jsonl").records) == len(rows(folder, split))
    for split in SPLITS:
        assert all(len(row["images"]) == 1 for row in rows(folder, split))
        assert all((folder / path).is_file() for path in shown(folder, split))


def test_answers_grade_themselves_and_no_other(folder: Path) -> None:
    answers = {row["answer"] for row in rows(folder, "train")}
    for said in answers:
        for gold in answers:
            outcome = grade(f"\\boxed{{{said}}}", gold, answer_type="text").outcome
            assert (outcome == "correct") == (said == gold), (said, gold)


def test_the_blank_twin_differs_in_its_picture_alone(folder: Path) -> None:
    heldout, blank = rows(folder, "heldout"), rows(folder, "heldout_blank")
    assert [row | {"images": []} for row in blank] == [row | {"images": []} for row in heldout]
    [path] = shown(folder, "heldout_blank")
    with Image.open(folder / path) as image:
        assert image.size == (64, 64) and len(image.getcolors()) == 1


def test_the_same_bytes_again(folder: Path, tmp_path: Path) -> None:
    again = easy_vqa.prepare(tmp_path / "again")
    for split in SPLITS:
        assert (again / f"{split}.jsonl").read_bytes() == (folder / f"{split}.jsonl").read_bytes()
