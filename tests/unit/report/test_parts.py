"""The report's pure parts: text made visible, boxes read, rows thinned and chosen."""

from __future__ import annotations

import pytest

from pangu_rl.report.curves import thinned
from pangu_rl.report.drawn_boxes import Shapes, found_shapes, gold_shapes
from pangu_rl.report.facts import phases, ranges
from pangu_rl.report.rollouts import read_rollouts
from pangu_rl.report.shown_text import one_line, shown
from tests.unit.report.drawn_run import build_run


def test_shown():
    assert shown("a\tb\n c\u200b\r") == "a\tb\n c[U+200B][U+000D]"
    assert shown("abcdefghij", 3, 2) == "abc\n[... 5 characters left out ...]\nij"
    assert shown("abcdefghij", 3, 0) == "abc\n[... 7 characters left out ...]\n"
    assert shown("مرحبا 算一下") == "مرحبا 算一下"
    assert one_line("a\n\n b  c") == "a b c"


@pytest.mark.parametrize(
    ("row", "gold", "found"),
    [
        (
            {"gold": "[1, 2, 3, 4]", "answer_type": "bbox", "text": "\\boxed{(1,2),(5,6)}"},
            Shapes(boxes=((1, 2, 3, 4),)),
            Shapes(boxes=((1, 2, 5, 6),)),
        ),
        (
            {"gold": "[1, 2, 3, 4]", "answer_type": "point", "text": "\\boxed{(2,3)}"},
            Shapes(boxes=((1, 2, 3, 4),)),
            Shapes(point=(2, 3)),
        ),
        ({"gold": "null", "answer_type": "bbox", "text": "\\boxed{there is none}"}, Shapes(), Shapes()),
        ({"gold": "[1, 2, 3, 4]", "answer_type": "math", "text": "\\boxed{[1, 2, 3, 4]}"}, Shapes(), Shapes()),
        ({"gold": "[1, 2, 3, 4]", "answer_type": "bbox", "text": "none"}, Shapes(boxes=((1, 2, 3, 4),)), Shapes()),
    ],
)
def test_shapes(row, gold, found):
    assert gold_shapes(row | {"extra": None}) == gold
    assert found_shapes(row | {"extra": None}) == found


def test_shapes_in_the_declared_space():
    row = {"gold": "[100, 200, 300, 999]", "answer_type": "bbox", "text": "\\boxed{[1, 2, 3, 1000]}"}
    row["extra"] = '{"coordinates": "0-999"}'
    assert gold_shapes(row) == Shapes(boxes=((100, 200, 300, 999),), space="0-999")
    assert found_shapes(row) == Shapes(), "1000 lies outside of it"
    assert gold_shapes(row | {"extra": '{"coordinates": "furlongs"}'}) == Shapes()


def test_thinned_means_over_neighbours():
    rows = [{"step": s, "a": float(s), "b": None if s % 2 else 1.0} for s in range(1, 8)]
    assert thinned(rows, 3) == [
        {"step": 3, "a": 2.0, "b": 1.0},
        {"step": 6, "a": 5.0, "b": 1.0},
        {"step": 7, "a": 7.0, "b": None},
    ]
    assert thinned(rows, 7) == rows
    assert thinned([]) == []


def test_phases_and_ranges():
    rows = [{"step": 1, "time/a": 1.0, "x": 3.0}, {"step": 2, "time/a": 2.0, "time/b": 9.0, "x": None}]
    first, second = phases(rows)
    assert (first.name, first.seconds, first.share, first.mean, first.longest) == ("b", 9.0, 0.75, 9.0, 9.0)
    assert (second.name, second.seconds, second.mean, second.longest) == ("a", 3.0, 1.5, 2.0)
    assert ranges(rows)[-1] == ("x", 3.0, 3.0, 3.0, 3.0)


def test_the_newest_of_equals_once_per_prompt(tmp_path):
    found = read_rollouts(build_run(tmp_path, steps=4), per_sheet=2)
    uids = {title: [row["completion_uid"] for row in rows] for title, rows in found.sheets.items()}
    assert uids["Best"] == ["4:s/0", "4:g/0"]
    assert uids["Worst"] == ["4:h/0", "4:g/1"]
    assert uids["No verdict"] == ["4:h/1"]
    assert uids["Longest"][0] == "4:h/0"
    assert found.counts.rows == 28 and found.counts.outcomes["timeout"] == 4


def test_length_percentiles(tmp_path):
    counts = read_rollouts(build_run(tmp_path, steps=1), per_sheet=1).counts
    lengths = sorted(length for length, rows in enumerate(counts.lengths) for _ in range(rows))
    assert counts.length_percentiles() == {
        "shortest": lengths[0],
        "5 %": lengths[0],
        "50 %": lengths[3],
        "95 %": lengths[6],
        "longest": lengths[6],
    }
