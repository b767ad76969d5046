"""Sums of units that are one amount: `1 h 30 min`, `5'6"`, `2 kg 500 g`, `12°30'36''`. Text -> **a number**."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.mathematics.number_words import spelled_number
from rewards.mathematics.units import Unit, read_unit
from rewards.mathematics.values import Number

_AMOUNT = r"\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\}|[A-Za-z]+(?:-[a-z]+)?"
_PART = re.compile(rf"({_AMOUNT}) ?([A-Za-z]+|[\u4e00-\u9fff]{{1,3}})(?:,? and |,? ?|$)(?=\d|\\|[a-z]|$)")
_ONE_STROKE, _TWO_STROKES = r" ?(?:'|\^ ?\{?\\prime\}?)(?!') ?", r" ?(?:''|\"|\^ ?\{?\\prime ?\\prime\}?)"
_ANGLE = re.compile(
    rf"(?P<sign>-?)(?P<degrees>\d+)° ?(?P<minutes>\d+(?:\.\d+)?){_ONE_STROKE}"
    rf"(?:(?P<seconds>\d+(?:\.\d+)?){_TWO_STROKES})?",
    re.ASCII,
)
_FEET = re.compile(rf"(\d+){_ONE_STROKE}(\d+(?:\.\d+)?){_TWO_STROKES}", re.ASCII)
_CLOCK_MINUTES = re.compile(r"(?<=\d) ?m(?=$| ?\d+ ?s(?:ec)?$)", re.ASCII)
_DURATION = re.compile(r"\d+ ?(?:hr?|hours?) ?\d+ ?m(?: ?\d+ ?s(?:ec)?)?|\d+ ?m ?\d+ ?s(?:ec)?", re.ASCII)
"""Where an `m` is a minute."""


def read_sum_of_units(text: str) -> Number | None:
    """The amount in its first unit; None unless two or more units of one kind follow each other, the larger first."""
    if feet := _FEET.fullmatch(text):
        text = f"{feet[1]} ft {feet[2]} in"
    if _DURATION.fullmatch(text):
        text = _CLOCK_MINUTES.sub(" min", text)
    return _angle(text) or _parts(text)


def _angle(text: str) -> Number | None:
    match = _ANGLE.fullmatch(text)
    if match is None:
        return None
    value = int(match["degrees"]) + Fraction(match["minutes"]) / 60 + Fraction(match["seconds"] or 0) / 3600
    return Number(-value if match["sign"] else value, read_unit("°"))


def _parts(text: str) -> Number | None:
    sign = -1 if text.startswith("-") else 1
    place, total, units = len(text) - len(text.lstrip("-")), Fraction(0), list[Unit]()
    while place < len(text):
        match = _PART.match(text, place)
        unit = read_unit(match[2]) if match else None
        amount = _amount(match[1]) if match else None
        if unit is None or amount is None or not unit.dimensions:
            return None
        if units and (unit.dimensions != units[0].dimensions or unit.factor >= units[-1].factor):
            return None
        units.append(unit)
        total += amount * unit.factor
        place = match.end()
    return Number(sign * total / units[0].factor, units[0]) if len(units) > 1 else None


def _amount(text: str) -> Fraction | None:
    if text.startswith("\\"):
        top, bottom = map(int, re.findall(r"\d+", text))
        return Fraction(top, bottom) if bottom else None
    return Fraction(text) if text[0].isdigit() else spelled_number(text)
