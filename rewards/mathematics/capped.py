"""Sympy within bounds: **what would grow past them raises `TooLarge`**, wherever in an expression it stands.

A dozen characters cost all memory in two ways, and each has one place in sympy: an exact power of a number is computed
digit by digit (`(xy)^{y^{13}}` at a point), and a function of a large argument is computed with as many digits more as
stand before its point (`\\sin(e^{e^{12}})`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_POWER_BITS = 1 << 16
"""Of an exact power: 1000 times the longest number at which values are compared, and five times that."""
MAX_PRECISION_BITS = 1 << 15
"""Working precision: 30 times that of the digits that are compared."""


class TooLarge(Exception):
    """The value is not computed."""


@contextmanager
def capped() -> Iterator[None]:
    """Sympy as ever, but for these two bounds; for one thread, which is a grader's child."""
    from sympy.core import evalf
    from sympy.core.numbers import Integer, Rational

    of_integer, of_rational, of_expression = Integer._eval_power, Rational._eval_power, evalf.evalf

    def power(of: Any) -> Any:
        def capped_power(base: Any, exponent: Any) -> Any:
            if isinstance(exponent, Rational):
                bits = int(base.p).bit_length() + int(base.q).bit_length()
                if bits * abs(int(exponent.p)) > MAX_POWER_BITS * int(exponent.q):
                    raise TooLarge
            return of(base, exponent)

        return capped_power

    def capped_evalf(expression: Any, precision: int, options: Any) -> Any:
        if precision > MAX_PRECISION_BITS:
            raise TooLarge
        return of_expression(expression, precision, options)

    Integer._eval_power, Rational._eval_power, evalf.evalf = power(of_integer), power(of_rational), capped_evalf
    try:
        yield
    finally:
        Integer._eval_power, Rational._eval_power, evalf.evalf = of_integer, of_rational, of_expression
