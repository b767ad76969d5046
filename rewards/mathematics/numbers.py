"""A single exact number in any usual spelling, as a `Fraction`: the fast path that decides most answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.mathematics.arithmetic import MAX_DIGITS, exact_value
from rewards.mathematics.number_words import spelled_number

_DECIMAL = re.compile(r"[+-]? ?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+|(?:'\d{3})+|(?:_\d{3})+)(?:\.\d+)?", re.ASCII)
_MIXED = re.compile(r"(?P<sign>[+-]?)(?P<whole>\d+) ?(?P<part>\\frac\{\d+\}\{\d+\}|(?<= )\d+ ?/ ?\d+)", re.ASCII)
_MINUS_WORD = re.compile(r"^(?:minus|negative) (?=[\d.]|\\frac)", re.IGNORECASE)
_INDIAN = re.compile(r"-?[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?", re.ASCII)
_IN_UNITS = re.compile(rf"({_DECIMAL.pattern}) ?u\^(?:[23]|\{{[23]\}})", re.ASCII)
_SHORT = re.compile(rf"(?P<digits>(?:{_DECIMAL.pattern}))(?P<scale>[kKMB]| ?(?:mn|bn|tn))", re.ASCII)
_SCALES = {"k": 3, "K": 3, "M": 6, "mn": 6, "B": 9, "bn": 9, "tn": 12}
"""Powers of ten."""
_SPAN = re.compile(r"\d+(?:\.\d+)? ?- ?\d+(?:\.\d+)?(?:[ -].*)?", re.ASCII)
_REPEATING = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d*)\.(?P<fixed>\d*)(?:(?P<round>\()|\\(?:overline|bar|dot)\{?)(?P<block>\d+)"
    r"(?(round)\)|\}?)",
    re.ASCII,
)
_DOTTED = re.compile(r"(?<=[\d.])\\dot ?\{? ?(?P<first>\d) ?\}?(?P<between>\d*)\\dot ?\{? ?(?P<last>\d) ?\}?", re.ASCII)
"""A block between two dots, `0.\\dot{1}4285\\dot{7}`."""
_ABOVE = re.compile(r"\\(?:overset|stackrel) ?\{ ?(?:\\(?:cdot|bullet)|\.) ?\} ?\{ ?(\d) ?\}")
_BARRED = re.compile(r"(?:\\(?:bar|overline) ?(?:\d|\{ ?\d ?\}) ?){2,}", re.ASCII)
"""Digits that have a bar each, `0.\\bar3\\bar6`."""
_GOING_ON = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d*)\.(?P<fixed>\d*?)(?:(?P<one>\d)(?P=one){2,}|(?P<block>\d{2,6})(?P=block)+)\.\.\.",
    re.ASCII,
)
"""`0.1666...` and `0.3636...`: a digit three times or a block twice before the dots."""
_ONE_DOT = re.compile(r"\\(dot|bar|overline) (?=\d)")
_DIGIT = re.compile(r"\d", re.ASCII)
_TIMES_TEN = re.compile(r"(?<=\d) ?[xX] ?(?=10\^)")
_PERCENT = re.compile(r"(.*\S) ?(?:%|percent(?:age)?|per cent|pct)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exact:
    """A number and how it was written."""

    value: Fraction
    percent: bool = False
    """Written with a percent sign; `value` is then the hundredth."""
    decimals: int | None = None
    """Digits after the point, if it was written as a decimal."""


def read_number(text: str) -> Exact | None:
    """The number that `text` (in its plain form) is, whole; None if it is anything else, or of more than 64 digits.

    Integers, decimals, groups of three (`1,234.5`, `1 234`), fractions, mixed numbers (`1 1/2`), percents,
    scientific notation, repeating decimals (`0.\\overline{3}`, `0.(3)`), arithmetic of such, and words. `3-1` is a
    score or a range.
    """
    text = text.strip()
    if not text:
        return None
    if percent := _PERCENT.fullmatch(text):
        inner = _read_bare(percent[1])
        return Exact(inner.value / 100, percent=True) if inner else None
    if text.startswith("百分之"):
        value = spelled_number(text)
        return Exact(value, percent=True) if value is not None else None
    return _read_bare(text)


def _read_bare(text: str) -> Exact | None:
    text = _MINUS_WORD.sub("-", text)
    if _SPAN.fullmatch(text):
        return None
    if _GROUPED.fullmatch(text):
        text = re.sub(r"[, '_]", "", text)
    if _DECIMAL.fullmatch(text):
        text = text.replace(" ", "")
        if sum(c.isdigit() for c in text) > MAX_DIGITS:
            return None
        point = text.find(".")
        return Exact(Fraction(text.rstrip(".")), decimals=len(text) - point - 1 if point >= 0 else 0)
    if mixed := _MIXED.fullmatch(text):
        part = exact_value(mixed["part"])
        if part is None or len(mixed["whole"]) > MAX_DIGITS:
            return None
        return Exact((-1 if mixed["sign"] == "-" else 1) * (int(mixed["whole"]) + part))
    if text.endswith("...") and len(text) < 2 * MAX_DIGITS and (going_on := _GOING_ON.fullmatch(text)):
        return _repeating(going_on)
    text = _BARRED.sub(
        lambda match: f"\\overline{{{''.join(_DIGIT.findall(match[0]))}}}", _ABOVE.sub(r"\\dot{\1}", text)
    )
    block = _DOTTED.sub(r"\\overline{\g<first>\g<between>\g<last>}", _ONE_DOT.sub(r"\\\1", text))
    if repeating := _REPEATING.fullmatch(block):
        return _repeating(repeating)
    if _DIGIT.search(text):
        value = exact_value(_TIMES_TEN.sub(r" \\times ", text))
        if value is not None:
            return Exact(value)
    value = spelled_number(text)
    return Exact(value) if value is not None else None


def in_full(text: str) -> str:
    """`text` with all digits of a number that is another thing elsewhere: `1.5M` and `2.3k` are products of letters,
    as is the `12u^2` of squares on paper, and the Indian groups of `12,34,567` a list."""
    if _INDIAN.fullmatch(text):
        return text.replace(",", "")
    if area := _IN_UNITS.fullmatch(text):
        return area[1]
    short = _SHORT.fullmatch(text)
    return f"{short['digits']}e{_SCALES[short['scale'].strip()]}" if short else text


def _repeating(match: re.Match[str]) -> Exact | None:
    whole, fixed, block = match["whole"] or "0", match["fixed"], match["block"] or match["one"]
    if len(whole + fixed + block) > MAX_DIGITS:
        return None
    shift = 10 ** len(fixed)
    value = Fraction(int(whole + fixed), shift) + Fraction(int(block), shift * (10 ** len(block) - 1))
    return Exact(-value if match["sign"] == "-" else value)


def round_half_up(value: Fraction, decimals: int) -> Fraction:
    """`value` to `decimals` places; a half goes away from zero, as on paper: 3.15 -> 3.2, -2.675 -> -2.68."""
    scaled = abs(value) * 10**decimals + Fraction(1, 2)
    rounded = Fraction(scaled.numerator // scaled.denominator, 10**decimals)
    return -rounded if value < 0 else rounded
