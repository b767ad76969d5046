"""The report's pure parts: text made visible, boxes read, rows thinned and chosen."""

from __future__ import annotations

import pytest

from pangu_rl.pages.shown_text import one_line, shown
from pangu_rl.report.facts import phases, ranges
from pangu_rl.report.places import Place, Places, found_places, gold_places
from pangu_rl.report.rollouts import read_rollouts
from pangu_rl.report.thinned import thinned
from tests.unit.report.drawn_run import build_run


def test_shown():
    assert shown("a\tb\n c\u200b\r") == "a\tb\n c[U+200B][U+000D]"
    assert shown("abcdefghij", 3, 2) == "abc\n[... 5 characters left out ...]\nij"
    assert shown("abcdefghij", 3, 0) == "abc\n[... 7 characters left out ...]\n"
    assert shown("مرحبا 算一下") == "مرحبا 算一下"
    assert one_line("a\n\n b  c") == "a b c"


def box(*corners: float) -> Place:
    return Place(corners=(corners[:2], corners[2:]))


@pytest.mark.parametrize(
    ("kind", "gold", "text", "in_gold", "in_text"),
    [
        ("bbox", "[1, 2, 3, 4]", "\\boxed{(1,2),(5,6)}", [box(1, 2, 3, 4)], [box(1, 2, 5, 6)]),
        ("point", "[1, 2, 3, 4]", "\\boxed{(2,3)}", [box(1, 2, 3, 4)], [Place(corners=((2, 3),))]),
        ("bbox", "null", "\\boxed{there is none}", [], []),
        ("math", "[1, 2, 3, 4]", "\\boxed{[1, 2, 3, 4]}", [], []),
        ("bbox", "[1, 2, 3, 4]", "none", [box(1, 2, 3, 4)], []),
        (
            "points",
            "[[1, 2], [3, 4]]",
            "\\boxed{[[5, 6]]}",
            [Place(corners=((1, 2),)), Place(corners=((3, 4),))],
            [Place(corners=((5, 6),))],
        ),
        ("quads", "[[1, 1, 9, 1, 9, 5, 1, 5]]", "\\boxed{no}", [Place(corners=((1, 1), (9, 1), (9, 5), (1, 5)))], []),
    ],
)
def test_places(kind, gold, text, in_gold, in_text):
    row = {"gold": gold, "answer_type": kind, "text": text, "extra": None}
    assert (list(gold_places(row).shapes), list(found_places(row).shapes)) == (in_gold, in_text)


def test_labels_are_places_whatever_the_answer_is():
    """The grammar's space is 0 to 999; a name goes with each of its shapes."""
    cat = "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(010,020),(300,400)<|box_end|>"
    row = {"gold": cat, "answer_type": "objects", "extra": '{"coordinates": "0-999"}', "text": f"see {cat}"}
    cats = Places(shapes=(Place(corners=((10, 20), (300, 400)), name="cat"),), space="0-999")
    assert gold_places(row) == found_places(row) == cats
    assert found_places(row | {"answer_type": "text", "extra": None}) == cats
    assert found_places(row | {"text": "<|box_start|>(1,2)<|box_end|>"}) == Places()


def test_places_in_the_declared_space():
    row = {"gold": "[100, 200, 300, 999]", "answer_type": "bbox", "text": "\\boxed{[1, 2, 3, 1000]}"}
    row["extra"] = '{"coordinates": "0-999"}'
    assert gold_places(row) == Places(shapes=(box(100, 200, 300, 999),), space="0-999")
    assert found_places(row) == Places(), "1000 lies outside of it"
    assert gold_places(row | {"extra": '{"coordinates": "furlongs"}'}) == Places()


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
