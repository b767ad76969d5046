"""What names a value, and what says something else of it."""

from __future__ import annotations

import pytest

from rewards.mathematics.read_value import compact_name


@pytest.mark.parametrize(
    "name", ["x", "x_1", "AB", "\\angle A", "f(x)", "f(2)", "Area", "\\Delta x", "\\theta", "半径"]
)
def test_names(name: str) -> None:
    assert compact_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "\\sqrt x",
        "\\ln x",
        "\\sin(x)",
        "\\log x",
        "\\pi r",
        "x y",
        "\\theta r",
        "not x",
        "wrong",
        "log x",
        "xy",
        "不是",
    ],
)
def test_functions_products_and_denials_are_no_names(name: str) -> None:
    assert compact_name(name) == ""
