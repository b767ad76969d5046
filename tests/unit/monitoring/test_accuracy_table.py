"""Intervals against worked and published values; the table pairs items, and sources."""

from __future__ import annotations

import io
from math import sqrt
from statistics import NormalDist

import pytest
from rich.console import Console

from pangu_rl.monitoring.accuracy_table import accuracy_table, compare
from pangu_rl.monitoring.intervals import mcnemar, paired_difference, wilson
from pangu_rl.records import Evaluation


def test_wilson_worked_by_hand():
    """8 of 10 with z = 2: centre (0.8 + 4/20) / (1 + 4/10) = 1/1.4; half 2/1.4 * sqrt(0.8*0.2/10 + 4/400)."""
    low, high = wilson(8, 10, z=2.0)
    half = 2 / 1.4 * sqrt(0.016 + 0.01)
    assert (low, high) == pytest.approx((1 / 1.4 - half, 1 / 1.4 + half))


def test_wilson_published():
    """Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: 81/263 and 0/20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_paired_difference_worked_by_hand():
    """30 gained, 10 lost of 98, z = 2: centre (30.5 - 10.5)/100, half 2 * sqrt(41 - 400/100) / 100."""
    assert paired_difference(30, 10, 98, z=2.0) == pytest.approx((0.2 - 0.02 * sqrt(37), 0.2 + 0.02 * sqrt(37)))


def test_paired_is_tighter_than_unpaired_when_little_changes():
    low, high = paired_difference(10, 0, 500)
    assert low > 0
    assert high - low < wilson(300, 500)[1] - wilson(300, 500)[0]


def test_mcnemar_worked_by_hand():
    """1 lost and 5 gained: (C(6,0) + C(6,1)) / 64 * 2 = 14/64."""
    assert mcnemar(5, 1) == mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0


def test_mcnemar_of_many_items():
    """Near the normal distribution's: 200 of 8,000 more gained, less one for continuity, in units of sqrt(8000)."""
    assert mcnemar(4100, 3900) == pytest.approx(2 * NormalDist().cdf(-199 / sqrt(8000)), rel=1e-3)


def evaluation(name, right, sources):
    return Evaluation(
        name=name, step=0, correct={f"p{i}": i in right for i in range(4)}, sources={f"p{i}": s for i, s in sources}
    )


SOURCES = list(enumerate(["sums", "sums", "words", "words"]))


def test_compare_counts_items_and_leaves_out_those_without_a_verdict():
    before, after = evaluation("base", {0, 2}, SOURCES), evaluation("grpo", {0, 1, 3}, SOURCES)
    change = compare(before, after)
    assert (change.items, change.gained, change.lost, change.difference) == (4, 2, 1, 0.25)
    del after.correct["p3"]
    assert (compare(before, after).items, compare(before, after).gained) == (3, 1)


def test_the_table():
    rows = [evaluation("base", {0}, SOURCES), evaluation("after GRPO", {0, 1, 3}, SOURCES)]
    stream = io.StringIO()
    Console(file=stream, width=120).print(accuracy_table(rows))
    text = stream.getvalue()
    lines = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")] for line in text.splitlines() if "│" in line
    }
    assert lines["base"][2] == "4" and lines["base"][3].startswith("25.0 (") and lines["base"][4] == ""
    assert lines["after GRPO"][3].startswith("75.0 (") and lines["after GRPO"][4].startswith("+50.0 (")
    assert lines["words"][4].startswith("+50.0 (")


def test_the_table_of_the_quickstart_fits_a_terminal_of_80_columns():
    names = ["reasoning_gym", "sum"]
    items = {f"p{i}": i % 3 > 0 for i in range(500)}
    sources = {uid: names[i % 2] for i, uid in enumerate(items)}
    none = Evaluation(name="base", step=0, correct=dict.fromkeys(items, False), sources=sources)
    stream = io.StringIO()
    Console(file=stream, width=80).print(
        accuracy_table([none, Evaluation(name="step 40", step=40, correct=items, sources=sources)])
    )
    assert "…" not in stream.getvalue()
