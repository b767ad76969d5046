"""Equality by computer algebra: math-verify's LaTeX parser, then exact sympy numbers at many digits. In a child only.

Two expressions are equal if they agree, relatively and at 80 digits, at several rational points: nothing is simplified
or grows without bound (`capped`). Their names of several letters must be the same, which the parser reads as products.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from rewards.mathematics.capped import TooLarge, capped
from rewards.mathematics.compare import Scalar
from rewards.mathematics.expressions import with_brackets, words
from rewards.mathematics.families import LETTER
from rewards.mathematics.guard import Refused, check_text
from rewards.mathematics.progressions import Formula, same_members
from rewards.mathematics.units import Unit
from rewards.mathematics.values import Expr, Family, Number, Row
from rewards.rules.gold import BadGold

DIGITS = 100
AGREEMENT = 80
"""Digits to which values must agree to be equal."""
MIN_DECIMALS_OF_IRRATIONAL = 8
"""A decimal of at least so many significant digits equals an irrational that rounds to it; exact golds get no such."""

_POINTS = (
    (Fraction(137, 97), Fraction(211, 89), Fraction(331, 193), Fraction(67, 61)),
    (Fraction(-113, 71), Fraction(173, 139), Fraction(29, 43), Fraction(-157, 101)),
    (Fraction(19, 53), Fraction(-23, 79), Fraction(-41, 37), Fraction(13, 47)),
    (Fraction(1009, 101), Fraction(31, 7), Fraction(53, 11), Fraction(241, 17)),
    (Fraction(-307, 13), Fraction(-59, 31), Fraction(97, 29), Fraction(-7, 83)),
    (Fraction(7, 103), Fraction(311, 23), Fraction(-251, 41), Fraction(83, 19)),
)
_DECIMAL = re.compile(r"(?<![\w.])(\d*)\.(\d+)")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\}|\([^()]*\))\s*°")
_PRIME = re.compile(r"'|\\prime")
_FREE_GAMMA = (
    (re.compile(r"\\gamma(?![A-Za-z])"), r"\varpi"),
    (re.compile(r"\\Gamma(?! ?\( ?(?:\d|\\frac)|[A-Za-z])"), r"\varrho"),
)
"""The parser takes `\\gamma` for Euler's constant and `\\Gamma` for the function, which is meant before a number in
brackets only: names that the guard lets nobody else use stand for them."""
_LOWERED_DIGIT = re.compile(r"\d ?_")


class SympyLeaves:
    """`Leaves` by sympy."""

    def equal(self, gold: Scalar, answer: Scalar) -> bool:
        import sympy

        if not _same_words([gold], [answer]):
            return False
        wanted, found = _gold_of(gold), _sympy_of(answer)
        if gold.unit and answer.unit:
            ratio = gold.unit.factor / answer.unit.factor
            wanted = wanted * _rational(ratio)
        elif _is_degrees(gold.unit) and isinstance(answer, Expr) and "\\pi" in answer.text:
            wanted = wanted * sympy.pi / 180
        elif _is_degrees(answer.unit) and isinstance(gold, Expr) and "\\pi" in gold.text:
            found = found * sympy.pi / 180
        if isinstance(gold, Number) != isinstance(answer, Number) and _rounds_to(gold, answer, wanted, found):
            return True
        symbols = sorted(wanted.free_symbols | found.free_symbols, key=str)
        return _agree(_both_at(_points(symbols), wanted, found, [gold]), bool(symbols))

    def decimal(self, value: Scalar) -> Fraction | None:
        """The real number that an expression without variables is, to `DIGITS` digits; None if it is none."""
        number = _at(_sympy_of(value), {})
        return _fraction(number.real) if number is not None and _is_real(number) else None

    def same_family(self, gold: Family, answer: Family) -> bool:
        """Raises BadGold of families that are no arithmetic progressions."""
        try:
            wanted = list(map(_formula, gold.members))
        except Refused as refused:
            raise _bad_gold(" ".join(item.text for row in gold.members for item in row.items), refused) from None
        return same_members(wanted, list(map(_formula, answer.members)))

    def same_relation(self, gold: Sequence[Scalar], answer: Sequence[Scalar], directed: bool) -> bool:
        if not _same_words(gold, answer):
            return False
        wanted = _difference([_gold_of(side) for side in gold], directed)
        found = _difference([_sympy_of(side) for side in answer], directed)
        if wanted.free_symbols != found.free_symbols or not wanted.free_symbols:
            return False
        points = _points(sorted(wanted.free_symbols, key=str))
        return _proportional(_both_at(points, wanted, found, gold), directed)


def _formula(member: Row) -> Formula:
    import sympy

    letter = sympy.Symbol(LETTER.removeprefix("\\"))
    parsed = [_parsed(item.text) for item in member.items]  # type: ignore[union-attr]

    def at(index: int) -> tuple[Fraction, ...] | None:
        values = [_at(one.subs(letter, index), {}) for one in parsed]
        whole = all(value is not None and _is_real(value) for value in values)
        return tuple(_fraction(value.real) for value in values) if whole else None

    return member.brackets, at


def _fraction(value: Any) -> Fraction:
    import mpmath

    with mpmath.workdps(2 * DIGITS):
        return Fraction(mpmath.nstr(value, DIGITS, min_fixed=-DIGITS, max_fixed=DIGITS))


def _same_words(gold: Sequence[Scalar], answer: Sequence[Scalar]) -> bool:
    wanted, found = (
        sorted(word for side in sides if isinstance(side, Expr) for word in words(side.text))
        for sides in (gold, answer)
    )
    return wanted == found


def _difference(sides: Sequence[Any], directed: bool) -> Any:
    import sympy

    difference = sides[0] - sides[1]
    return difference if directed else sympy.fraction(sympy.together(difference))[0]


def _gold_of(value: Scalar) -> Any:
    """A gold that algebra does not read is a fault of the data, not a wrong answer."""
    try:
        return _sympy_of(value)
    except Refused as refused:
        raise _bad_gold(value.text, refused) from None  # type: ignore[union-attr]


def _bad_gold(text: str, refused: Refused) -> BadGold:
    return BadGold(f"gold {text!r} {refused}: only its own spelling can match")


def _sympy_of(value: Scalar) -> Any:
    if isinstance(value, Number):
        return _rational(value.value)
    return _parsed(value.text)


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """The sympy expression of plain LaTeX; decimals and degrees are exact.

    Raises:
        Refused: the parser does not read it, or reads something else than one expression.
    """
    import sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

    if _PRIME.search(text):
        raise Refused("has a prime, which algebra does not read")
    if _LOWERED_DIGIT.search(text):
        raise Refused("has a subscript on a number")  # which the parser would drop
    text = with_brackets(text)
    check_text(text)  # a hundred functions of one another
    for gamma, free in _FREE_GAMMA:
        text = gamma.sub(lambda _, free=free: free, text)
    latex = _DECIMAL.sub(lambda m: f"\\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}}", text)
    latex = _DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", latex).replace("\\lg", "\\log_{10}")
    try:
        with capped():
            parsed = latex2sympy(
                latex, normalization_config=None, conversion_config=ConversionConfig(lowercase_symbols=False)
            )
    except MemoryError:  # the child is over its limit, which is no verdict on the answer
        raise
    except Exception as error:  # the parser raises bare Exceptions, and sympy what it likes, on input it does not read
        raise Refused(f"is not read by algebra ({type(error).__name__})") from None
    if not isinstance(parsed, sympy.Expr):
        raise Refused("is no single expression")
    return parsed.subs(sympy.Symbol("i"), sympy.I)


def _both_at(points: Sequence[Any], wanted: Any, found: Any, gold: Sequence[Scalar]) -> Iterator[tuple[Any, Any]]:
    """Values of both at each point; raises BadGold where that of `gold` is too large, Refused where the answer's is."""
    for point in points:
        try:
            one = _at(wanted, point)
        except Refused as refused:
            raise _bad_gold(" ".join(side.text for side in gold if isinstance(side, Expr)), refused) from None
        yield one, _at(found, point)


def _agree(values: Iterator[tuple[Any, Any]], has_symbols: bool) -> bool:
    """Equal at every point where both have a value, and at one at least."""
    met = 0
    for one, other in values:
        if one is None or other is None:
            if (one is None) != (other is None) and not has_symbols:
                return False
            continue
        if _is_real(one) != _is_real(other) and has_symbols:
            continue  # ln(x^2) and 2 ln x, where x < 0
        if not _close(one, other):
            return False
        met += 1
    return met > 0


def _proportional(values: Iterator[tuple[Any, Any]], positive: bool) -> bool:
    import mpmath

    ratios = []
    for one, other in values:
        if one is None or other is None or one == 0 or other == 0:
            continue
        with mpmath.workdps(2 * DIGITS):
            ratios.append(one / other)
    if len(ratios) < 3 or (positive and not (_is_real(ratios[0]) and ratios[0].real > 0)):
        return False
    return all(_close(ratio, ratios[0]) for ratio in ratios[1:])


def _points(symbols: list[Any]) -> list[dict[Any, Any]]:
    if not symbols:
        return [{}]
    return [
        {symbol: _rational(row[index % 4] + Fraction(index // 4, 3)) for index, symbol in enumerate(symbols)}
        for row in _POINTS
    ]


def _at(expression: Any, point: dict[Any, Any]) -> Any:
    """The value at a point as an mpmath number of 100 digits, or None where there is none.

    Raises:
        Refused: it needs more digits than are computed.
    """
    import mpmath
    import sympy

    try:
        with capped():
            value = sympy.N(expression.subs(point).doit(), DIGITS, maxn=4 * DIGITS)
        if value.is_finite is False or value.has(sympy.nan, sympy.zoo):
            return None
        real, imaginary = (_mpmath_of(part) for part in value.as_real_imag())
    except TooLarge:
        raise Refused("has values that are too large") from None
    except (AttributeError, TypeError, ValueError, ArithmeticError, NotImplementedError):
        return None
    with mpmath.workdps(2 * DIGITS):
        number = mpmath.mpc(real, imaginary)
    return number if mpmath.isfinite(number) else None


def _mpmath_of(part: Any) -> Any:
    """A sympy number's value; 0 where all its digits cancelled, which sympy marks by a precision of one bit."""
    return 0 if getattr(part, "_prec", DIGITS) <= 1 else part._to_mpmath(4 * DIGITS)


def _close(one: Any, other: Any) -> bool:
    import mpmath

    with mpmath.workdps(2 * DIGITS):
        return abs(one - other) <= mpmath.mpf(10) ** -AGREEMENT * max(abs(one), abs(other))


def _is_real(number: Any) -> bool:
    import mpmath

    with mpmath.workdps(2 * DIGITS):
        return abs(number.imag) <= mpmath.mpf(10) ** -AGREEMENT * abs(number.real)


def _rounds_to(gold: Scalar, answer: Scalar, wanted: Any, found: Any) -> bool:
    """Whether one side is a long decimal and the other an irrational number that rounds to it."""
    decimal, exact = (gold, found) if isinstance(gold, Number) else (answer, wanted)
    if not isinstance(decimal, Number) or not decimal.decimals or exact.free_symbols or (gold.unit and answer.unit):
        return False
    digits = len(str(abs(decimal.value.numerator * 10**decimal.decimals // decimal.value.denominator)))
    value = _at(exact, {})
    if digits < MIN_DECIMALS_OF_IRRATIONAL or value is None or not _is_real(value):
        return False
    import mpmath

    with mpmath.workdps(2 * DIGITS):
        given = mpmath.mpf(decimal.value.numerator) / decimal.value.denominator
        return abs(value.real - given) <= mpmath.mpf(10) ** -decimal.decimals / 2


def _is_degrees(unit: Unit | None) -> bool:
    return unit is not None and unit.dimensions == (("angle", 1),)


def _rational(value: Fraction) -> Any:
    import sympy

    return sympy.Rational(value.numerator, value.denominator)
