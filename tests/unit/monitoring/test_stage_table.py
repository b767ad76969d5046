"""The table of a pipeline: figures worked by hand, changes against every parent, blocks, Markdown, the plot."""

from __future__ import annotations

import pytest
from rich.console import Console

from pangu_rl.monitoring.intervals import mcnemar, paired_difference, wilson
from pangu_rl.monitoring.stage_plot import plot_stages
from pangu_rl.monitoring.stage_table import BLOCK, Measured, columns_of, stage_figures, stage_markdown, stage_tables
from pangu_rl.records import Evaluation

ITEMS = 10


def evaluation(right: str, step: int = 0) -> Evaluation:
    """`right` is one sign per item: 1 right, 0 wrong, - no verdict. The first 6 are of source a, the others of b."""
    correct = {f"i{i}": sign == "1" for i, sign in enumerate(right) if sign != "-"}
    return Evaluation(
        name="all", step=step, correct=correct, sources={uid: "a" if int(uid[1:]) < 6 else "b" for uid in correct}
    )


START = Measured(name="start", against=(), sets={"all": evaluation("1100000000")})
LEFT = Measured(name="left", against=("start",), sets={"all": evaluation("1011100000")})
RIGHT = Measured(name="right", against=("start",), sets={"all": evaluation("1100001100")})
MEAN = Measured(name="mean", against=("left", "right"), sets={"all": evaluation("11111011-0")})
ROWS = [START, LEFT, RIGHT, MEAN]


def test_levels_and_changes_by_hand():
    """left against start: i2, i3, i4 became right, i1 wrong. mean against left, on the 9 items that it has a verdict
    on: i1, i6, i7 became right, none wrong. mean against right: i2, i3, i4 became right."""
    figures = {row["stage"]: row["columns"]["all"] for row in stage_figures(ROWS)}
    low, high = wilson(4, 10)
    assert {key: figures["left"][key] for key in ("items", "right", "accuracy", "low", "high")} == {
        "items": 10,
        "right": 4,
        "accuracy": 0.4,
        "low": low,
        "high": high,
    }
    low, high = paired_difference(3, 1, 10)
    assert figures["left"]["changes"]["start"] == {
        "items": 10,
        "gained": 3,
        "lost": 1,
        "change": pytest.approx(0.2),
        "low": low,
        "high": high,
        "p": mcnemar(3, 1),
    }
    changes = figures["mean"]["changes"]
    assert [(name, c["items"], c["gained"], c["lost"]) for name, c in changes.items()] == [
        ("left", 9, 3, 0),
        ("right", 9, 3, 0),
    ]
    assert figures["mean"]["items"] == 9
    assert figures["start"]["changes"] == {}


def test_categories_are_columns_of_their_own():
    columns = columns_of(ROWS)
    assert list(columns) == ["all", "all: a", "all: b"]
    assert sum(columns["all: a"]["left"].correct.values()) == 4
    assert len(columns["all: b"]["mean"].correct) == 3
    one = Measured(name="x", against=(), sets={"all": evaluation("111")})
    assert list(columns_of([one])) == ["all"], "one category says nothing of its own"


def test_a_model_without_a_set_leaves_its_cell_empty():
    other = Measured(name="other", against=("start",), sets={"more": evaluation("11")})
    figures = stage_figures([START, other])
    assert set(figures[0]["columns"]) == {"all", "all: a", "all: b"}
    assert set(figures[1]["columns"]) == {"more"}
    assert "| other<br>  against start |  |" in stage_markdown([START, other])
    apart = Measured(name="apart", against=("start",), sets={"all": evaluation("--------11")})
    assert stage_figures([START, apart])[1]["columns"]["all"]["changes"]["start"]["items"] == 2


def test_markdown_has_one_row_per_stage_and_a_line_per_parent():
    text = stage_markdown(ROWS)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == "| stage | all (10) | all: a (6) | all: b (4) |"
    assert len(lines) == 2 + len(ROWS)
    cell = lines[5].split(" | ")[1]
    assert cell.startswith("77.8 (45.3 - 93.7)<br>+33.3 (")
    assert cell.count("+3 -0") == 2


def test_the_terminal_gets_blocks_of_columns():
    sets = {f"set{i}": evaluation("110", i) for i in range(BLOCK + 2)}
    tables = stage_tables([Measured(name="m", against=(), sets=sets)])
    assert [len(table.columns) for table in tables] == [1 + BLOCK, 3]
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in tables:
        console.print(table)
    headers = [
        line for line in stage_markdown([Measured(name="m", against=(), sets=sets)]).splitlines() if "set" in line
    ]
    assert [header.count("set") for header in headers] == [BLOCK, 2]
    text = console.export_text()
    assert "set0 (3)" in text and f"set{BLOCK + 1} (3)" in text
    assert text.count("Held-out accuracy by stage") == 1


def test_the_plot_is_a_picture(tmp_path):
    """Also of a model that is always wrong, and of one that is always right: Wilson's ends are then off by rounding."""
    extremes = [
        Measured(name=f"{sign}{items}", against=("start",), sets={"all": evaluation(sign * items)})
        for sign in "01"
        for items in range(1, 11)
    ]
    plot_stages([*ROWS, *extremes], tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes()[:4] == b"\x89PNG"
