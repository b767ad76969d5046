"""Exact value of arithmetic on plain numbers: `2^{10}`, `\\frac{3}{4}`, `1.6\\times10^{-19}`, `3e8`, `5!`, `(1+2)/3`.

A recursive descent over a few tokens into `Fraction`, so that no answer of this kind ever needs computer algebra. What
is not such an expression, or would be a number of thousands of digits, has no value here.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MAX_DIGITS = 64
MAX_EXPONENT = 1000
MAX_FACTORIAL = 3000
MAX_BITS = 40_000
"""Of a numerator or denominator: a little more than 3000!."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4}(?![\d.]))?)|(?P<name>\\(?:frac|cdot|times|div))(?![A-Za-z])"
    r"|(?P<mark>\*\*|[-+*/^!(){}]))",
    re.ASCII,
)


class _NoValue(Exception):
    """Not an expression of plain numbers, or too large a one."""


def exact_value(text: str) -> Fraction | None:
    """The value of `text` (in its plain form), or None."""
    tokens = _tokens(text)
    if not tokens:
        return None
    parser = _Parser(tokens)
    try:
        value = parser.sum()
    except (_NoValue, ZeroDivisionError, IndexError, RecursionError):
        return None
    return value if parser.done() else None


def _tokens(text: str) -> list[str]:
    found, position = [], 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if not token:
            return []
        piece = token.group().strip()
        if token["number"] and sum(map(str.isdigit, piece)) > MAX_DIGITS:
            return []
        found.append("^" if piece == "**" else piece)
        position = token.end()
    return found


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def done(self) -> bool:
        return self._at == len(self._tokens)

    def sum(self) -> Fraction:
        value = self._product()
        while self._next() in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value = _bounded(value + sign * self._product())
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            token = self._next()
            if token in ("*", r"\cdot", r"\times"):
                self._take()
                value = _bounded(value * self._signed())
            elif token in ("/", r"\div"):
                self._take()
                value = _bounded(value / self._signed())
            elif token == "(" and "." in self._tokens[self._at - 1]:
                raise _NoValue  # 0.1(6) repeats its 6
            elif token == "(" or (token == r"\frac" and self._tokens[self._at - 1] == ")"):
                value = _bounded(value * self._power())  # 2(3)
            else:
                return value

    def _signed(self) -> Fraction:
        if self._next() in ("+", "-"):
            return (1 if self._take() == "+" else -1) * self._signed()
        return self._power()

    def _power(self) -> Fraction:
        base = self._atom()
        if self._next() != "^":
            return base
        self._take()
        exponent = self._signed()
        if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
            raise _NoValue
        if (base.numerator.bit_length() + base.denominator.bit_length()) * abs(exponent) > MAX_BITS:
            raise _NoValue
        return base ** int(exponent)

    def _atom(self) -> Fraction:
        token = self._take()
        if token in ("(", "{"):
            value = self.sum()
            self._expect(")" if token == "(" else "}")
        elif token == r"\frac":
            top = self._group()
            value = top / self._group()
        elif token[0].isdigit() or token[0] == ".":
            value = _literal(token)
            if self._next() == "!":
                value = self._factorial(value)
        else:
            raise _NoValue
        if self._next() == "!":
            raise _NoValue  # of a group, or of a factorial
        return value

    def _group(self) -> Fraction:
        self._expect("{")
        value = self.sum()
        self._expect("}")
        return value

    def _factorial(self, value: Fraction) -> Fraction:
        self._take()
        if value.denominator != 1 or value > MAX_FACTORIAL:
            raise _NoValue
        return Fraction(math.factorial(int(value)))

    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise _NoValue


def _literal(token: str) -> Fraction:
    exponent = re.search(r"[eE]([+-]?\d+)", token)
    if exponent and abs(int(exponent[1])) > MAX_EXPONENT:
        raise _NoValue
    return Fraction(token if not token.endswith(".") else token[:-1])


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise _NoValue
    return value
