"""What answers in words, labels, JSON or lists say of places, and how many things they say there are."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from rewards.mathematics.guard import Refused
from rewards.metrics.said_count import said_count
from rewards.metrics.said_places import Box, said_boxes, said_depths, said_objects, said_points

ONE, TWO = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)
LABELLED = "<|object_ref_start|>fish<|object_ref_end|><|box_start|>(001,002),(003,004)<|box_end|>"
NAMELESS = "<|box_start|>(001,002),(003,004)<|box_end|>"


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        (LABELLED, {"fish": [ONE]}),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "fish"}]', {"fish": [ONE]}),
        ('{"bbox": [1, 2, 3, 4], "category": "fish"}', {"fish": [ONE]}),
        ('[{"box_2d": [1, 2, 3, 4], "Name": " fish "}, {"box_2d": [5, 6, 7, 8], "Name": "cat"}]',
         {"fish": [ONE], "cat": [TWO]}),
        ("[{'bbox_2d': [1, 2, 3, 4], 'class': \"boy's hat\"}]", {"boy's hat": [ONE]}),
        ('{"label": "fish", "bboxes": [[1, 2, 3, 4], [5, 6, 7, 8]]}', {"fish": [ONE, TWO]}),
        ('{"bboxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["fish", "cat"]}', {"fish": [ONE], "cat": [TWO]}),
        ('{"fish": [[1, 2, 3, 4]], "cat": {"bbox": [5, 6, 7, 8]}}', {"fish": [ONE], "cat": [TWO]}),
        ('{"objects": [{"bbox_2d": [1, 2, 3, 4], "label": "fish"}]}', {"fish": [ONE]}),
        ('Here: ｛"bbox_2d"：［1，2，3，4］，"label"："鱼"｝。', {"鱼": [ONE]}),
        ("[]", {"": []}),
    ],
)  # fmt: skip
def test_names(text: str, objects: dict[str, list[Box]]) -> None:
    assert said_objects(text, ["fish", "cat"]) == objects
    assert said_boxes(text) == [box for boxes in objects.values() for box in boxes]


@pytest.mark.parametrize(
    "text",
    [NAMELESS, "[[1, 2, 3, 4]]", "[1, 2, 3, 4]", '{"bbox_2d": [1, 2, 3, 4], "label": ""}',
     '{"bbox_2d": [1, 2, 3, 4], "label": 7}', '{"objects": [{"bbox_2d": [1, 2, 3, 4]}]}'],
)  # fmt: skip
def test_a_box_without_a_name_is_that_of_the_only_one_asked_for(text: str) -> None:
    assert said_objects(text, ["fish"]) == {"fish": [ONE]}
    for several in (["fish", "cat"], []):
        with pytest.raises(Refused, match="without a name"):
            said_objects(text, several)


def test_another_name_is_not_the_one_asked_for() -> None:
    assert said_objects('[{"bbox_2d": [1, 2, 3, 4], "label": "shark"}]', ["fish"]) == {"shark": [ONE]}


@pytest.mark.parametrize(
    "text", ['{"count": 3}', '{"bbox_2d": [1, 2, 3, 1000]}', '{"fish": [1, 2]}', str([[1, 2, 3, 4]] * 201)]
)
def test_no_boxes(text: str) -> None:
    with pytest.raises(Refused):
        said_objects(text, ["fish"])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("There are 3 cars: [[120, 340], [560, 700], [80, 90]]", 3),
        ("There are 3 cars: [[120, 340], [560, 7", 3),
        ("There are [3] cars", 3),
        ('[{"point_2d": [120, 340], "label": "car"}]', 1),
        ('[{"point_2d": [120, 340], "label": "car 7"}, {"point_2d": [1, 2], "label": "car 8"}]', 2),
        ('{"total_count": 5, "points": [[120, 340], [560, 700]]}', 5),
        ('{"count": 5}', 5),
        ("(45.5, 30.2), (560, 700)", 2),
        ("（１２０，３４０）、（５６０，７００）", 2),
        ("3 cars at (10, 20, 30, 40)", 3),
        ("3 cars in the 2nd row", 3),
        ("3 of point_2d, x4 or car5", 3),
        ("图中有3只猫，在第2排", 3),
        ("２只", 2),
        ("three cars, [1, 2], [3, 4]", 3),
        ("2.5 cars", None),
    ],
)
def test_a_count_is_no_coordinate_and_no_part_of_a_word(text: str, count: int | None) -> None:
    assert said_count(text) == count


@pytest.mark.parametrize("text", ["(1000, 340), (560, 700)", "(-5, 10)", "[[1000, 340]]", "cars", "7" * 5000])
def test_no_count(text: str) -> None:
    """No point is left out silently: of two, one outside leaves nothing to count."""
    with pytest.raises(Refused):
        said_count(text)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("(45.5, 30.2), (560, 700)", [(45.5, 30.2), (560, 700)]),
        ("（１２０，３４０）", [(120, 340)]),
        ('[{"point_2d": [120, 340], "bbox_2d": [1, 2, 3, 4]}]', [(120, 340)]),
    ],
)
def test_points(text: str, points: list[tuple[float, float]]) -> None:
    assert said_points(text) == points


def test_points_outside_are_refused() -> None:
    for text in ("(1000, 340), (560, 700)", "(560, 700), (-1, 3)", "(999.5, 3)"):
        with pytest.raises(Refused, match="outside"):
            said_points(text)
    assert said_depths("(45.5, 30.2): 2 m") == [((45.5, 30.2), 2.0)]


@pytest.mark.parametrize("piece", ["[", "[1, ", "(1,", "{}", '"a_', "1", "(1", "[]"])
def test_long_answers_take_linear_time(piece: str) -> None:
    """Looking again from every bracket takes minutes."""
    start = time.process_time()
    for read in (said_count, said_points, said_boxes):
        with suppress(Refused):
            read(piece * 30_000)
    assert time.process_time() - start < 2
