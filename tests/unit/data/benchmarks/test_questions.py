"""Which rows of a file a figure is of, and which are one question."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pangu_rl.data.benchmarks.load import load_benchmark
from rewards.metrics.gold_check import benchmark_problem
from tests.unit.data.benchmarks.hub_files import definition, picture, png, read, write_tsv

MMBENCH = ["index", "question", "A", "B", "answer", "category", "split", "image"]


def test_a_file_of_two_splits_is_asked_about_one(tmp_path: Path) -> None:
    """MMMU_DEV_VAL.tsv: the picture of a row of dev is also that of a row of validation, which names it."""
    shown = base64.b64encode(png()).decode()
    path = write_tsv(
        tmp_path / "MMMU_DEV_VAL.tsv",
        ["index", "question", "A", "B", "answer", "split", "image"],
        ["1", "One?", "x", "y", "A", "dev", shown],
        ["2", "Two?", "x", "y", "A", "validation", "1"],
        ["3", "Three?", "x", "y", "E", "dev", "gone"],
        ["4", "Four?", "x", "y", "B", "validation", shown],
    )
    found = load_benchmark(path, definition("mmmu"), problem=benchmark_problem)
    assert ([prompt.uid for prompt in found.prompts], found.left_out, found.elsewhere) == (["2", "4"], [], 2)
    assert found.prompts[0].images == found.prompts[1].images
    (second,) = load_benchmark(path, definition("mmmu"), limit=1).prompts
    assert second.uid == "2", "a limit counts rows of the figure"


def test_rows_of_the_hub_are_known_by_what_they_say(tmp_path: Path) -> None:
    """MMMU's by their ids, MMLU-Redux's by the fault that its authors found, TextVQA's by their set."""
    row = {"question": "Which?", "options": "['x', 'y']", "answer": "A", "image_1": picture()}
    found = read("mmmu", [row | {"id": f"{split}_Art_1"} for split in ("dev", "validation", "test")], tmp_path)
    assert ([prompt.uid for prompt in found.prompts], found.elsewhere) == (["validation_Art_1"], 2)
    row = {"question": "Which?", "choices": ["2", "0"], "answer": 0}
    found = read("mmlu_redux", [row | {"error_type": kind} for kind in ("ok", "wrong_groundtruth", None)], tmp_path)
    assert ([prompt.uid for prompt in found.prompts], found.elsewhere) == (["1", "3"], 1)
    row = {"question": "What?", "answers": ["x"] * 10, "image": picture()}
    found = read("textvqa", [row | {"set_name": name} for name in ("train", "val")], tmp_path)
    assert ([prompt.uid for prompt in found.prompts], found.elsewhere) == (["2"], 1)


def test_ids_that_count_anew_tell_no_rows_apart(tmp_path: Path) -> None:
    """C-Eval's in every subject, those of ODinW's pictures in every data set; elsewhere they are the same row twice."""
    row = {"question": "Which?", "A": "x", "B": "y", "C": "z", "D": "w", "answer": "A"}
    rows = [row | {"subject": subject, "id": number} for subject in ("law", "art") for number in (0, 1)]
    found = read("ceval", rows, tmp_path)
    assert [prompt.uid for prompt in found.prompts] == ["1", "2", "3", "4"] and not found.left_out
    objects = {"bbox": [[16.0, 8.0, 32.0, 16.0]], "category": ["cat"]}
    row = {"image_id": 1, "category_name": "cat", "objects": objects, "image": picture()}
    assert len(read("odinw13", [row | {"dataset": name} for name in ("pets", "cats")], tmp_path).prompts) == 2
    found = read("mmlu_pro", [{"question_id": 7, "question": "Q?", "options": ["x", "y"], "answer": "A"}] * 2, tmp_path)
    assert "id '7' was there before: name what tells rows apart in columns.id" in found.left_out[0]


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        (None, ["5", "6", "7", "1000005", "1000006", "1000007"]),
        (5, ["5", "6", "1000005", "1000006"]),
        (4, ["5", "6", "1000005", "1000006"]),
        (1, ["5", "1000005"]),
    ],
)
def test_a_limit_takes_whole_questions(tmp_path: Path, limit: int | None, asked: list[str]) -> None:
    """Three questions in two rotations each, the rotations behind all of them, and rows of another split."""
    shown = base64.b64encode(png()).decode()
    path = write_tsv(
        tmp_path / "rows.tsv",
        MMBENCH,
        ["1000004", "Other?", "x", "y", "A", "colour", "test", shown],
        *([number, "Which?", "x", "y", "A", "colour", "dev", shown] for number in ("5", "6", "7")),
        *([f"100000{number}", "Which?", "y", "x", "B", "colour", "dev", number] for number in ("5", "6", "7")),
    )
    found = load_benchmark(path, definition("mmbench"), problem=benchmark_problem, limit=limit)
    assert [prompt.uid for prompt in found.prompts] == asked and not found.left_out
    assert {prompt.extra["group_rows"] for prompt in found.prompts} == {2}


def test_a_question_knows_of_a_row_that_cannot_be_asked(tmp_path: Path) -> None:
    rows = [
        {"index": 1, "question": "Red?", "answer": "Yes", "category": "color", "image_path": "1.png"},
        {"index": 2, "question": "Blue?", "answer": "maybe", "category": "color", "image_path": "1.png"},
        {"index": 2, "question": "Blue?", "answer": "No", "category": "color", "image_path": "1.png"},
    ]
    found = read("mme", [row | {"image": picture()} for row in rows], tmp_path)
    assert [(prompt.uid, prompt.extra["group_rows"]) for prompt in found.prompts] == [("1", 2), ("2", 2)]
    found = read("mme", [row | {"image": picture()} for row in rows[:2]], tmp_path)
    assert [(prompt.uid, prompt.extra["group_rows"]) for prompt in found.prompts] == [("1", 2)]
    assert "row 2: answer 'maybe'" in found.left_out[0]


def test_what_where_begins_with_must_be_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "Q?", "choices": ["x", "y"], "answer": 0, "error_type": "\ud800"}) + "\n")
    assert "half a surrogate pair is no text" in load_benchmark(path, definition("mmlu_redux")).left_out[0]
