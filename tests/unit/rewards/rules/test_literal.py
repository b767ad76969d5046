"""Boxes and points as JSON, Python or LaTeX write them: quotes within texts, several keys, and bounds."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest

from pangu_rl.records import Outcome
from rewards import grade
from rewards.mathematics.guard import Refused
from rewards.rules.literal import MAX_CHARS, read_data, read_literal

BOX = [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("""[{"bbox_2d": [1, 2, 3, 4], "label": "boy's hat"}]""", "boy's hat"),
        (r"""[{"bbox_2d": [1, 2, 3, 4], "label": "a \"big\" hat"}]""", 'a "big" hat'),
        ("""[{'bbox_2d': [1, 2, 3, 4], 'label': "boy's hat"}]""", "boy's hat"),
        (r"""[{'bbox_2d': (001, 002, 003, 004), 'label': 'boy\'s hat', 'text': None, 'crowd': True}]""", "boy's hat"),
        ("""[{'label': 'boy's hat', 'bbox_2d': [1, 2, 3, 4]}]""", "boy's hat"),
        ("""[{"label": "the "big" hat", "bbox_2d": [1, 2, 3, 4]}]""", 'the "big" hat'),
        ("""[{"label": "the “big” hat", "bbox_2d": [1, 2, 3, 4]}]""", "the “big” hat"),
        ('[{"label": "None (5) 3×3", "bbox_2d": [1, 2, 3, 4]}]', "None (5) 3×3"),
        (r'[{"label": "\u732b", "bbox_2d": [1, 2, 3, 4]}]', "猫"),
        ("［｛“bbox_2d”：［１，２，３，４］，“label”：“猫”｝］", "猫"),
        (r'[\{"bbox\_2d": [1, 2, 3, 4], "label": "a\_b"\}]', "a_b"),
        (r"[{\"bbox_2d\": [1, 2, 3, 4], \"label\": \"hat\"}]", "hat"),
        ('```json\n[\n {"bbox_2d": [1, 2, 3, 4],\n  "label": "hat"\n }\n]\n```', "hat"),
    ],
)
def test_what_stands_between_quotes_is_kept(text: str, label: str) -> None:
    ((found,),) = [read_data(text)]
    assert (list(found["bbox_2d"]), found["label"]) == (BOX, label)
    assert read_literal(text, 4) == [BOX]


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        ('{"bbox_2d": [1, 2, 3, 4], "point_2d": [5, 6]}', 4, BOX),
        ('{"bbox_2d": [1, 2, 3, 4], "point_2d": [5, 6]}', 2, [5, 6]),
        ('{"bbox_2d": [[1, 2], [3, 4]], "points": [[5, 6], [7, 8]]}', 2, [[5, 6], [7, 8]]),
        ('{"point": "its tip", "point_2d": [5, 6]}', 2, [5, 6]),
        ('{"bbox": [1, 2, 3, 4], "bbox_2d": [1, 2, 3, 4]}', 4, BOX),
        ('{"bounding_box": [1, 2, 3, 4], "confidence": 0.9}', 4, BOX),
        ('{"Box": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}', 4, BOX),
        ('{"bbox": [1, 2, 3, 4], "bbox_2d": [1, 2, 3, 5]}', 4, None),
        ('{"bbox": [1, 2, 3, 4], "bbox_2d": [1, 2, 3, 5]}', 2, None),
        ('{"label": "hat"}', 4, None),
        ('{"bbox_2d": [1, 2, 3, 4], "label": "cut of', 4, None),
        ('{"bbox_2d": [1, 2, 3, NaN]}', 4, None),
    ],
)
def test_the_key_with_the_wanted_numbers(text: str, count: int, found: Any) -> None:
    """Of two boxes that differ none is meant."""
    if found is not None:
        assert read_literal(text, count) == found
        return
    with pytest.raises(Refused):
        read_literal(text, count)


@pytest.mark.parametrize(
    ("answer", "answer_type", "gold", "outcome"),
    [
        ("""[{"bbox_2d": [0, 0, 9, 9], "label": "boy's hat"}]""", "bbox", "[0, 0, 9, 9]", Outcome.CORRECT),
        ("""[{"bbox_2d": [0, 0, 9, 2], "label": "boy's hat"}]""", "bbox", "[0, 0, 9, 9]", Outcome.INCORRECT),
        ('{"bbox_2d": [0, 0, 9, 9], "point_2d": [4, 4]}', "bbox", "[0, 0, 9, 9]", Outcome.CORRECT),
        ('{"bbox_2d": [0, 0, 9, 9], "point_2d": [4, 4]}', "point", "[0, 0, 9, 9]", Outcome.CORRECT),
        ('{"bbox_2d": [0, 0, 9, 9], "point_2d": [44, 4]}', "point", "[0, 0, 9, 9]", Outcome.INCORRECT),
        ('{"bbox_2d": [0, 0, 9, 9], "bbox": [0, 0, 900, 900]}', "bbox", "[0, 0, 9, 9]", Outcome.UNPARSABLE),
    ],
)
def test_graded(answer: str, answer_type: str, gold: str, outcome: Outcome) -> None:
    assert grade(f"\\boxed{{{answer}}}", gold, answer_type, coordinates="0-999").outcome is outcome


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        (r"\left[10, 20, 110, 220\right]", 4, [10, 20, 110, 220]),
        (r"\text{[10,20,110,220]}", 4, [10, 20, 110, 220]),
        ("10,20,110,220.", 4, [10, 20, 110, 220]),
        ("The bounding box is [10, 20, 110, 220].", 4, [10, 20, 110, 220]),
        ("click(60, 100)", 2, [60, 100]),
        ('{"cat": [10,20,110,220]}', 4, [10, 20, 110, 220]),
        ('["10", "20", "110", "220.5"]', 4, [10, 20, 110, 220.5]),
        ('{"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4, "label": "hat"}', 4, BOX),
        ('{"left": 1, "top": 2, "right": 3, "bottom": 4}', 4, BOX),
        ('{"x": 10, "y": 20, "width": 5, "height": 6}', 4, [10, 20, 15, 26]),
        ('{"left": 10, "top": 20, "width": 5, "height": 6}', 4, [10, 20, 15, 26]),
        ('{"coordinate": [60, 100]}', 2, [60, 100]),
        ("<ref>a cat</ref><box>(10,20),(110,220)</box>", 4, [[10, 20], [110, 220]]),
        ("<box>[[10, 20, 110, 220]]</box>", 4, [[10, 20, 110, 220]]),
        ("<point>60 100</point>", 2, [60, 100]),
        ("<point>1 2</point><point>3 4</point>", 2, [[1, 2], [3, 4]]),
        ("(60,100) and (310,310)", 2, [[60, 100], [310, 310]]),
        ("(60,100); (310,310)", 2, [[60, 100], [310, 310]]),
        ("box 3 is [10,20,110,220]", 4, None),
        ("[10,20,110,220] or [1,2,3,4]", 4, None),
        ("[10,20,110,220], not [1,2,3,4]", 4, None),
        ('{"cat": [1,2,3,4], "dog": [5,6,7,8]}', 4, None),
        ('{"x": 10, "y": 20, "width": "five", "height": 6}', 4, [10, 20]),
    ],
)
def test_places_as_other_models_write_them(text: str, count: int, found: Any) -> None:
    """Words around one list say nothing; a second number or list among them does. What is no box may be a point."""
    if found is not None:
        assert read_literal(text, count) == found
        return
    with pytest.raises(Refused):
        read_literal(text, count)


@pytest.mark.parametrize("piece", ['"', "'", "'\"", '"\\"', '["', '{"', "'\\", '" ', "[[", '["x“:", [[', "'a',"])
def test_hostile_quotes_and_brackets_cost_milliseconds(piece: str) -> None:
    """Measured at most 66 ms beside two trainings."""
    start = time.process_time()
    with suppress(Refused):
        read_literal((piece * MAX_CHARS)[:MAX_CHARS], 4)
    assert time.process_time() - start < 0.5


def test_brackets_in_texts_do_not_hide_nesting() -> None:
    for hidden in ('"]]]]]]"', '"x“:"'):
        with pytest.raises(Refused):
            read_literal(f"[{hidden}, " + "[" * 2000 + "]" * 2001, 4)
