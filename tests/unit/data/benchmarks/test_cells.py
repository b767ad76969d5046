"""Cells of whatever kind of file, also those that nobody meant: texts and options, or a reason, never a traceback."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.data.benchmarks.cells import options_of, text_of
from pangu_rl.data.benchmarks.load import load_benchmark
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.errors import DataError
from tests.unit.data.benchmarks.hub_files import asked, definition, picture, png, read


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (3.0, "3"),
        (0.25, "0.25"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        ([1, Decimal("0.5")], '[1, "0.5"]'),
    ],
)
def test_cells_as_people_write_them(cell: Any, text: str) -> None:
    assert text_of(cell) == text


@pytest.mark.parametrize("cell", [b"x", [b"x"], None, {1, 2}, "\ud800"])
def test_cells_that_are_no_text(cell: Any) -> None:
    with pytest.raises(BadRow):
        text_of(cell)


def test_options_end_where_nothing_follows() -> None:
    assert options_of({"options": ["a", "b", None, ""]}, ("options",)) == ["a", "b"]
    assert options_of({"a0": "x", "a1": 0}, ("a#",)) == ["x", "0"]
    for row in ({"options": ["a", None, "b"]}, {"options": ["", "b"]}, {"options": "['a', '', 'b']"}):
        with pytest.raises(BadRow, match="one is left out between them"):
            options_of(row, ("options",))
    with pytest.raises(BadRow, match="has the options a0, a2: one is left out"):
        options_of({"a0": "x", "a2": "y"}, ("a#",))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json"])
def test_an_empty_cell_is_none_in_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    row = {"index": 1, "question": "Which?", "hint": " ", "A": "red", "B": "blue", "C": "", "D": "\u200b",
           "answer": "B", "category": "colour"}  # fmt: skip
    if kind == "parquet":
        found = read("mmbench", [row | {"image": picture()}], tmp_path)
    else:
        (tmp_path / "1.png").write_bytes(png())
        line = json.dumps(row | {"image": "1.png"})
        path = tmp_path / f"rows.{kind}"
        path.write_text(line if kind == "jsonl" else f"[{line}]")
        found = load_benchmark(path, definition("mmbench"), media_root=tmp_path)
    assert asked(found.prompts[0]).startswith("<image>Question: Which?\nOptions:\nA. red\nB. blue\nPlease select")
    assert found.prompts[0].extra["choices"] == ["red", "blue"]


def test_a_picture_is_bytes_of_a_column_of_bytes(tmp_path: Path) -> None:
    named = read("chartqa", [{"query": "Q?", "label": ["1"], "image": {"bytes": png(), "path": None}}], tmp_path)
    bare = read("chartqa", [{"query": "Q?", "label": ["1"], "image": png()}], tmp_path)
    listed = read("chartqa", [{"query": "Q?", "label": ["1"], "image": [png()]}], tmp_path)
    assert named.prompts[0].images == bare.prompts[0].images == listed.prompts[0].images != ()


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([[320, 1000]], "point [320, 1000] is outside 0 to 999 thousandths"),
        ([["a", "b"]], "'a' is not a whole number"),
        ([1, 2], "it has 2 points and 1 depths"),
        ([1], "1 is no point, x and y"),
        ([{"x": 1, "y": 2}], "is no point, x and y"),
        ([[1.5, 2]], "1.5 is not a whole number"),
        ([[1, 10**400]], "is not a whole number"),
        ("[[1, 2", "is no point, x and y"),
    ],
)
def test_points_that_are_none(tmp_path: Path, points: Any, reason: str) -> None:
    (tmp_path / "1.png").write_bytes(png())
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"points": points, "depths": [2.5], "image": "1.png"}) + "\n")
    found = load_benchmark(path, definition("nyu_depth_v2"), media_root=tmp_path)
    assert not found.prompts and reason in found.left_out[0], found.left_out


@pytest.mark.parametrize(
    "objects",
    ["cats", "{", [1], {"bbox": None, "category": ["a"]}, {"bbox": 1, "category": "a"},
     {"bbox": ["x"], "category": ["a"]}, {"bbox": [[1, 2, 3, 10**400]], "category": ["a"]},
     {"bbox": [[1, 2, 3, 4]], "category": [7]}],
)  # fmt: skip
def test_objects_that_are_none(tmp_path: Path, objects: Any) -> None:
    (tmp_path / "1.png").write_bytes(png())
    path = tmp_path / "rows.jsonl"
    row = {"dataset": "pets", "category_name": "a", "objects": objects, "image": "1.png"}
    path.write_text(json.dumps(row) + "\n")
    found = load_benchmark(path, definition("odinw13"), media_root=tmp_path)
    assert not found.prompts and len(found.left_out) == 1


def test_a_picture_without_an_object_is_one_of_the_figure(tmp_path: Path) -> None:
    """Whatever is said to be in it is wrong, by COCO's mAP."""
    row = {"dataset": "pets", "category_name": "cat", "image": picture()}
    full = {"bbox": [[16.0, 8.0, 32.0, 16.0]], "category": ["cat"]}
    found = read("odinw13", [row | {"objects": full}, row | {"objects": {"bbox": [], "category": []}}], tmp_path)
    assert not found.left_out
    assert (found.prompts[1].answer, found.prompts[1].extra["objects"]) == ("", {})


def test_a_text_and_an_id_that_are_bytes_are_named(tmp_path: Path) -> None:
    row = {"question_id": "1", "question": "Q?", "options": ["x", "y"], "answer": "A"}
    for name in row:
        found = read("mmlu_pro", [row | {name: [b"\xff"] if name == "options" else b"\xff"}], tmp_path)
        assert not found.prompts and "bytes is no text" in found.left_out[0]


def test_rows_that_are_no_objects(tmp_path: Path) -> None:
    for text in ("[[1, 2]]", '[{"question": "Q?"}, 3]'):
        (tmp_path / "rows.json").write_text(text)
        with pytest.raises(DataError, match=r"rows\.json, row \d: is a JSON (list|int), not an object"):
            load_benchmark(tmp_path / "rows.json", definition("mmlu_pro"))
