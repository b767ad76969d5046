"""Annotations: each refusal names field and value; pixel shapes become the labels that are worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_curation.operators.annotations.agreed_answer import agreed_answer
from data_curation.operators.annotations.grounding_labels import grounding_labels
from data_curation.operators.annotations.merged_annotations import merged_annotations
from data_curation.operators.annotations.objects_to_labels import least_quad, mask_points, objects_to_labels
from data_curation.operators.annotations.recode_labels import recode_labels
from data_curation.operators.annotations.structured_answers import structured_answers
from data_curation.operators.annotations.valid_rows import valid_rows
from data_curation.pipeline.record import Drop, Record
from pangu_rl.data.benchmarks.masks import mask_runs
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.grounding_labels import label_problem

CAT = "<|object_ref_start|>cat<|object_ref_end|>"
BOX = "<|box_start|>(012,034),(250,999)<|box_end|>"


def answer(text: str, **more: Any) -> Record:
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": text}]
    return Record({"id": "a", "messages": messages, **more}, "a", "file, row 1")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (200, 100)).save(tmp_path / "p.png")
    return tmp_path


def on_picture(folder: Path, **row: Any) -> Record:
    return Record({"id": "o", "images": ["p.png"], **row}, "o", "file, row 1", folder)


def test_rows_that_no_stage_reads() -> None:
    assert valid_rows(answer("Here.")) is None
    assert valid_rows(Record({"document": "text"}, "d", "")) is None
    assert valid_rows(Record({"prompt": "1 + 1?", "answer": "2", "curation": {"x": 1}}, "p", "")) is None
    for row, said in (
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0] needs a role"),
        ({"document": 7}, "key document is int"),
        ({"prompt": "1 + 1?"}, "answer"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}, "is empty"),
    ):
        verdict = valid_rows(Record(row, "b", ""))
        assert isinstance(verdict, Drop) and verdict.reason == "schema" and said in verdict.detail


@pytest.mark.parametrize("text", ["no place", f"A {CAT}{BOX} and {CAT}", BOX, f"{CAT}{BOX}{BOX}"])
def test_labels_of_the_grammar_pass(text: str) -> None:
    assert grounding_labels(answer(text)) is None


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("<|box_start|>(012,034),(250,999)", "unbalanced tags", "<|box_start|> at sign 0 is not closed"),
        (f"{CAT}(1,2)<|point_end|>", "unbalanced tags", "<|point_end|> at sign 46 closes nothing"),
        (f"<|object_ref_start|>cat{BOX}", "unbalanced tags", "<|object_ref_start|> at sign 0 is not closed before"),
        ("<|point_start|>(100,1000)<|point_end|>", "coordinates out of range", "1000 of <|point_start|>"),
        ("<|point_start|>(-1,10)<|point_end|>", "coordinates out of range", "-1 of <|point_start|>"),
        (f"{CAT} {BOX}", "not in the grammar", "a space stands between"),
        ("<|box_start|>(012, 034),(250,999)<|box_end|>", "not in the grammar", "is no name, point, box or quad"),
        ("<|box_start|>(12,34),(250,999)<|box_end|>", "not in the grammar", "is not written as"),
        ("<|box_start|>(250,034),(012,999)<|box_end|>", "not in the grammar", "has no area"),
    ],
)
def test_labels_that_are_not(text: str, reason: str, detail: str) -> None:
    verdict = grounding_labels(answer(f"{text}"))
    assert isinstance(verdict, Drop) and verdict.reason == reason
    assert verdict.detail.startswith("messages[1].content: ") and detail in verdict.detail


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]\n```', ""),
        ('{"point_2d": [10, 999]}', ""),
        ("plain words [1] with brackets", ""),
        ('```json\n[{"bbox_2d": [1, 2, 30, 40]\n```', "JSON that does not parse"),
        ('{"point_2d": [10, 1000]}', "coordinates out of range"),
        ('[{"bbox_2d": [30, 2, 1, 40]}]', "place that is none"),
        ('[{"bbox_2d": [30, 2, 1]}]', "place that is none"),
    ],
)
def test_structured_answers(text: str, reason: str) -> None:
    verdict = structured_answers(answer(text))
    assert (verdict.reason if isinstance(verdict, Drop) else "") == reason
    assert not reason or verdict.detail.startswith("messages[1].content: ")


def test_places_are_within_their_picture(picture: Path) -> None:
    """The picture is 200 x 100."""

    def said(**row: Any) -> str:
        verdict = structured_answers(on_picture(picture, **row))
        return f"{verdict.reason}: {verdict.detail}" if isinstance(verdict, Drop) else ""

    box = {"answer_type": "bbox", "coordinates": "pixel"}
    assert said(answer="[10, 20, 200, 100]", **box) == ""
    assert "has 101, which is outside the pixel coordinates" in said(answer="[10, 20, 200, 101]", **box)
    assert said(answer="[10, 20, 999, 999]", answer_type="bbox") == ""
    assert said(answer="cat", answer_type="text") == ""
    turns = [{"role": "assistant", "content": '{"point": [201, 5]}'}]
    assert "201 is not within 0 to 200" in said(messages=turns, coordinates="pixel")


def test_objects_become_labels(picture: Path) -> None:
    """In a picture of 200 x 100: x 50 of 200 is 250 thousandths, y 50 of 100 is 500; the edge itself is 999."""
    objects = [{"name": "cat", "box": [50, 0, 200, 50]}, {"name": "dog"}, {"point": [1, 1]}]
    edited = objects_to_labels(on_picture(picture, objects=objects)).row
    asked, said = edited["messages"]
    assert asked["content"] == "Locate cat, dog in the picture." and "objects" not in edited
    assert said["content"] == (
        "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(250,000),(999,500)<|box_end|>"
        "<|object_ref_start|>dog<|object_ref_end|><|point_start|>(005,010)<|point_end|>"
    )
    assert label_problem(said["content"]) is None
    switched = objects_to_labels(on_picture(picture, objects=objects[:1]), normalised=False, padded=False)
    assert "(50,0),(200,50)" in switched.row["messages"][1]["content"]
    for wrong, said in (
        ({"name": "cat", "box": [50, 0, 201, 50]}, r"objects\[0\].box .* leaves the picture of 200 x 100"),
        ({"name": "cat", "box": [50, 60, 90, 50]}, "has no area"),
        ({"name": "cat", "box": [1, 2, 3, 4], "point": [1, 2]}, "has box, point"),
    ):
        with pytest.raises(BadRow, match=said):
            objects_to_labels(on_picture(picture, objects=[wrong]))


def test_a_mask_is_of_the_size_of_its_picture(picture: Path) -> None:
    """Of 200 x 100 pixels the upper left quarter, columns first: 50 rows in and 50 out, a hundred times. One of half
    the size, or of the picture turned, would be a label somewhere else."""
    quarter = [0, *[50] * 199, 50 + 100 * 100]
    said = objects_to_labels(on_picture(picture, objects=[{"mask": {"size": [100, 200], "counts": quarter}}]))
    assert said.row["messages"][1]["content"] == "<|box_start|>(000,000),(500,500)<|box_end|>"
    for height, width in ((50, 100), (200, 100)):
        mask = {"size": [height, width], "counts": [0, 20, height * width - 20]}
        wrong = rf"objects\[0\].mask has the size \[{height}, {width}\] and the picture \[100, 200\]"
        with pytest.raises(BadRow, match=wrong):
            objects_to_labels(on_picture(picture, objects=[{"name": "cat", "mask": mask}]))


def test_the_least_quadrilateral_of_a_polygon_and_of_its_mask() -> None:
    """A square on its tip around (50, 50) with half diagonal 20: area 800, its upright box 1600, twice as large. Drawn
    as a mask, corners of pixels stand out by at most one: 2 * 21 * 21 = 882."""
    tip = np.array([[50, 30], [70, 50], [50, 70], [30, 50]], float)
    kind, corners = least_quad(tip, 0.1)
    assert kind == "quad"
    assert corners == pytest.approx(np.array([[50, 30], [70, 50], [50, 70], [30, 50]]), abs=1e-3) or corners == (
        pytest.approx(np.array([[30, 50], [50, 30], [70, 50], [50, 70]]), abs=1e-3)
    )
    y, x = np.mgrid[:100, :120]
    mask = abs(x + 0.5 - 50) + abs(y + 0.5 - 50) <= 20
    of_mask = least_quad(mask_points(mask_runs(mask), (120, 100)), 0.1)
    assert of_mask[0] == "quad" and {*map(tuple, corners.round())} == {(50, 30), (70, 50), (50, 70), (30, 50)}
    area = abs(np.cross(of_mask[1][1] - of_mask[1][0], of_mask[1][3] - of_mask[1][0]))
    assert 800 <= area <= 882.01
    assert least_quad(np.array([[1, 2], [9, 2.1], [9, 5], [1, 5]]), 0.1)[0] == "box"
    with pytest.raises(BadRow, match="empty"):
        mask_points({"size": [2, 2], "counts": [4]}, (2, 2))


def element(name: str, *box: float) -> dict[str, Any]:
    return {"name": name, "box": list(box)}


def test_what_two_of_three_annotators_see_alike_stays() -> None:
    """`OK` is seen by all, in boxes whose median is the second one; the icon is named alike by two; one sees a menu
    where nobody else does, so two of three elements stay."""
    annotations = {
        "one": [element("OK", 0, 0, 10, 10), element("bin", 50, 50, 60, 60)],
        "two": [element("ok ", 1, 0, 11, 10), element("delete", 50, 50, 60, 60), element("menu", 90, 0, 99, 9)],
        "three": [element("Cancel", 2, 0, 12, 10), element("Bin", 52, 50, 62, 60)],
    }
    record = Record({"id": "s", "images": ["s.png"], "annotations": annotations}, "s", "")
    made = merged_annotations(record).row
    assert made["objects"] == [element("OK", 0.5, 0, 10.5, 10), element("bin", 51, 50, 61, 60)]
    assert "annotations" not in made
    strict = merged_annotations(record, agreeing=3)
    assert isinstance(strict, Drop) and strict.detail == "0 of 3 elements are named alike"
    assert merged_annotations(record, least_share=0.7).reason == "annotators disagree"
    with pytest.raises(BadRow, match="has no area"):
        merged_annotations(Record({"annotations": {"one": [element("x", 5, 5, 5, 9)]}}, "s", ""))
    assert merged_annotations(Record({"text": "none"}, "n", "")) is None
    for nothing in (None, " "):  # who names nothing names nothing alike
        unnamed = {who: [element("OK", 0, 0, 9, 9), element(nothing, 50, 50, 60, 60)] for who in ("one", "two")}
        merged = merged_annotations(Record({"annotations": unnamed}, "s", ""))
        assert merged.row["objects"] == [element("OK", 0, 0, 9, 9)]


def test_the_answer_that_most_annotators_give() -> None:
    asked = [{"role": "user", "content": "Next?"}]

    def said(answers: Any, **how: Any) -> Any:
        verdict = agreed_answer(Record({"messages": asked, "answers": answers}, "s", ""), **how)
        return verdict.row["messages"][-1]["content"] if hasattr(verdict, "row") else verdict.reason

    clicks = [{"action": "click", "point": [100, y]} for y in (40, 52, 300)]
    three = dict(zip("abc", clicks, strict=True))
    assert said(three, within=14) == '{"action": "click", "point": [100, 40]}'
    assert said(three, within=11) == "annotators disagree"
    assert said({"a": "Settings", "b": "wifi", "c": "settings"}) == "Settings"
    assert said({"a": "scroll", "b": {"action": "scroll"}}) == "annotators disagree"
    for nothing in (None, "", " \u3164\n", {}, [], {"action": None, "text": ""}):
        assert said({"a": "tap", "b": nothing, "c": nothing}) == "annotators disagree"
        assert said({"a": nothing, "b": "tap", "c": nothing, "d": "Tap"}) == "tap"
    assert said({"a": 0, "b": 0}) == "0" and said({"a": False, "b": False}) == "false"
    with pytest.raises(BadRow, match="goes from annotators to answers"):
        said(["x", "y"])


def test_labels_of_table_5(picture: Path) -> None:
    """200 x 100 pixels: thousandths 12 and 34 are 12.5 / 1000 * 200 = 2.5, to the even 2, and 3.45, 3; 250 and 999 are
    50.1, 50, and 99.95, 100."""
    said = {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "At 012?"}]},
                         {"role": "assistant", "content": f"It is {BOX}."}], "answer": BOX}  # fmt: skip
    row = recode_labels(on_picture(picture, **said), normalised=False, padded=False).row
    assert row["messages"][1]["content"] == "It is <|box_start|>(2,3),(50,100)<|box_end|>."
    assert (row["answer"], row["coordinates"]) == ("<|box_start|>(2,3),(50,100)<|box_end|>", "pixel")
    assert row["messages"][0] == said["messages"][0], "nothing but labels is rewritten"
    row = recode_labels(on_picture(picture, **said), normalised=True, padded=False).row
    assert row["answer"] == "<|box_start|>(12,34),(250,999)<|box_end|>" and row["coordinates"] == "0-999"
    assert recode_labels(on_picture(picture, **said), padded=True).row["answer"] == BOX
    assert recode_labels(on_picture(picture, answer="012"), normalised=False) is None
    with pytest.raises(BadRow, match="labels of 2 pictures"):
        recode_labels(on_picture(picture, **said | {"images": ["p.png", "p.png"]}))
