"""The best pair of a resolution search, its table and its picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from pangu_rl.monitoring.intervals import wilson
from pangu_rl.monitoring.resolution_map import Cell, best_cell, best_text, draw_map, resolution_table
from pangu_rl.records import Evaluation


def cell(least: int, greatest: int, tokens: float, dev: int, test: int) -> Cell:
    """`dev` and `test` of ten items right."""
    sets = {"dev": dev, "test": test}
    return Cell(
        least * 784,
        greatest * 784,
        tokens,
        tuple(
            Evaluation(name=name, step=1, correct={f"{name}{i}": i < right for i in range(10)}, sources={})
            for name, right in sets.items()
        ),
    )


CELLS = [
    cell(4, 64, 12.0, 5, 9),
    cell(4, 256, 30.0, 7, 4),
    cell(16, 64, 20.0, 7, 3),
    cell(16, 256, 40.0, 6, 9),
]


def test_the_best_is_chosen_where_it_is_said_and_costs_least_among_equals() -> None:
    """On dev 7 of 10 twice: the one of 20 tokens wins. On all sets the sums are 14, 11, 10 and 15."""
    assert best_cell(CELLS, "dev") is CELLS[2]
    assert best_cell(CELLS, "test") is CELLS[0]
    assert best_cell(CELLS, None) is CELLS[3]


def test_a_cell_survives_the_file() -> None:
    assert Cell.from_json(json.loads(json.dumps(CELLS[1].as_json()))) == CELLS[1]


def test_the_table_has_every_pair_and_the_best_ones_interval() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(resolution_table(CELLS, CELLS[2], "dev"))
    text = console.export_text()
    low, high = wilson(3, 10)
    for expected in ("4*28²", "256*28²", "50.0", "60.0"):
        assert expected in text
    assert best_text(CELLS[2], "dev") == (
        "best on dev: min_pixels 12544, max_pixels 50176, 20 tokens a picture; dev 70.0 % (39.7 - 89.2) of 10, "
        f"test 30.0 % ({100 * low:.1f} - {100 * high:.1f}) of 10"
    )


def test_the_map_is_a_picture_with_a_panel_for_each_set_and_one_for_the_tokens(tmp_path: Path) -> None:
    draw_map(tmp_path / "map.png", CELLS, CELLS[2], "dev")
    draw_map(tmp_path / "one.png", [CELLS[0]], CELLS[0], None)
    with Image.open(tmp_path / "map.png") as image:
        assert image.width > 2.5 * image.height
        red = sum(pixel[0] > 200 and pixel[1] < 60 and pixel[2] < 60 for pixel in image.convert("RGB").getdata())
    assert red > 3 * 100


def test_unequal_axes_are_no_error(tmp_path: Path) -> None:
    odd = [cell(4, 64, 1.0, 1, 1), cell(4, 65, 1.0, 2, 2), cell(4, 66, 1.0, 3, 3)]
    draw_map(tmp_path / "row.png", odd, best_cell(odd, None), None)
    assert best_cell(odd, None) is odd[2]
    with pytest.raises(ValueError, match="empty"):
        best_cell([], None)
