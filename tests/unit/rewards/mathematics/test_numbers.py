"""Exact numbers in all their spellings, their units, and rounding on the decimal string."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from rewards.mathematics.arithmetic import exact_value
from rewards.mathematics.normalise import plain
from rewards.mathematics.number_words import spelled_number
from rewards.mathematics.numbers import read_number, round_half_up
from rewards.mathematics.units import read_unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"),
        ("-1,234.50", "-2469/2"),
        ("1 234 567", "1234567"),
        (".5", "1/2"),
        ("3/4", "3/4"),
        (r"-\frac{3}{4}", "-3/4"),
        ("1 1/2", "3/2"),
        (r"-1\frac{1}{2}", "-3/2"),
        ("3e8", "300000000"),
        (r"1.5\times10^{-2}", "3/200"),
        (r"0.1\overline{6}", "1/6"),
        ("0.1(6)", "1/6"),
        ("-0.(3)", "-1/3"),
        ("2(3)", "6"),
        ("two thirds", "2/3"),
        ("5分之一", "1/5"),
        ("2^{10}-24", "1000"),
        ("5!", "120"),
        ("twenty-one", "21"),
        ("三分之一", "1/3"),
        ("0.333...", "1/3"),
        ("-0.1666...", "-1/6"),
        ("0.3636...", "4/11"),
        ("0.142857142857...", "1/7"),
        (r".\overline{3}", "1/3"),
        (r"0.\overset{\cdot}{3}", "1/3"),
        (r"0.\bar3\bar6", "4/11"),
        (r"0.1\overset{.}{3}\overset{.}{6}", "3/22"),
        ("negative 5", "-5"),
        ("minus 3.5", "-7/2"),
        ("3 dozen", "36"),
        ("three dozen", "36"),
        ("half a dozen", "6"),
        ("1.5*10**-3", "3/2000"),
    ],
)
def test_exact_numbers(text: str, value: str) -> None:
    number = read_number(text)
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "inf",
        "٤٢",
        "1.2.3",
        "1,22",
        "12,3456",
        "3-1",
        "1990-2000",
        "1/0",
        "2 3",
        "x",
        "9" * 65,
        "9!!",
        "(3)!",
        "1.5(0.4)",
        "2+0.(3)",
        "0.(3",
        "two third",
        "0.16...",
        "0.33...",
        "0.123...",
        "negative -5",
        "1.5M",
        "12,34,567",
        "one third half",
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize("text", ["9^{9^{9}}", "10^{10^{10}}", "1e99999", "9999999!", "((9^{999})^{999})^{999}"])
def test_huge_values_cost_nothing(text: str) -> None:
    start = time.process_time()
    assert exact_value(text) is None
    assert time.process_time() - start < 1.0


def test_percent_is_a_hundredth_and_says_so() -> None:
    number = read_number("12.5%")
    assert number is not None
    assert (number.value, number.percent) == (Fraction(1, 8), True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("one hundred and five", 105), ("two thousand three", 2003), ("a dozen", 12), ("1.5 million", 1500000),
     ("一千零五", 1005), ("二〇二四", 2024), ("一万二千", 12000), ("3万", 30000), ("负五", -5),
     ("3百万", 3000000), ("3千万", 30000000), ("5千", 5000), ("二十亿", 2000000000)],
)  # fmt: skip
def test_number_words(text: str, value: int) -> None:
    assert spelled_number(text) == value


@pytest.mark.parametrize(
    "text", ["and", "one two", "hundred", "five hundred hundred", "万", "一二十", "cat", "twenty ten"]
)
def test_words_that_are_no_number(text: str) -> None:
    assert spelled_number(text) is None


@pytest.mark.parametrize(
    ("value", "decimals", "rounded"),
    [("3.15", 1, "3.2"), ("2.675", 2, "2.68"), ("-2.675", 2, "-2.68"), ("3.1499999", 1, "3.1"), ("0.05", 1, "0.1")],
)
def test_rounding_is_half_up_on_the_decimal_string(value: str, decimals: int, rounded: str) -> None:
    """`round(3.15, 1)` is 3.1 and `round(2.675, 2)` is 2.67: binary floats hold neither half."""
    assert round_half_up(Fraction(value), decimals) == Fraction(rounded)


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [("km", "m", "1000"), ("m^2", "cm^2", "10000"),
     ("km/h", "m/s", "5/18"), ("L", "cm^{3}", "1000"), ("h", "s", "3600"),
     ("平方厘米", "square cm", "1"), ("m s^{-1}", "米/秒", "1"), ("kg", "克", "1000"), ("dollars", "¢", "100")],
)  # fmt: skip
def test_units_of_one_dimension_convert_exactly(one: str, other: str, ratio: str) -> None:
    first, second = read_unit(one), read_unit(other)
    assert first is not None and second is not None
    assert first.dimensions == second.dimensions
    assert first.factor / second.factor == Fraction(ratio)


@pytest.mark.parametrize(("one", "other"), [("m", "m^2"), ("m/s", "m"), ("°C", "°F"), ("€", "$"), ("apples", "pears")])
def test_units_of_other_dimensions_do_not(one: str, other: str) -> None:
    first, second = read_unit(one), read_unit(other)
    assert first is not None and second is not None
    assert first.dimensions != second.dimensions


@pytest.mark.parametrize("text", ["", "or more", "million", "x", "左右", "km//h", "squared", "sixths", "lakh",
                                  "incorrect", "two apples", "分之一", "的倒数", "以内", "打", "立方根"])  # fmt: skip
def test_what_is_no_unit(text: str) -> None:
    assert read_unit(text) is None


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("$\\mathbf{７}.\\;$", "7"),
        ("1½", "1 1/2"),
        ("x²", "x^{2}"),
        ("101₂", "101_{2}"),
        ("12㎠", "12cm^2"),
        ("5\\,\\mathrm{cm}", "5 cm"),
        ("90^{\\circ}", "90°"),
        ("\\left(\\tfrac{1}{2}\\right)", "(\\frac{1}{2})"),
        ("\\boxed{\\textbf{\\text{B}}}", "B"),
        ("\u200b-\u202e3\x00", "-3"),
        ("−3", "-3"),
        ("7\ud800", "7"),
        ("\\text{}", ""),
    ],
)
def test_plain_form(answer: str, form: str) -> None:
    assert plain(answer) == form
