"""What may be given to computer algebra at all: bounds that are checked on the text, before anything parses it.

Sympy evaluates what it is given, so a dozen characters (`9!!!!`, `10^{10^{10}}`) cost all memory. The child that runs
it is killable; this keeps ordinary hostile input from costing a deadline each. What grows by the values of letters is
bounded where they are put in (`capped`).
"""

from __future__ import annotations

import re

from rewards.mathematics.arithmetic import MAX_DIGITS, MAX_EXPONENT, exact_value

MAX_NESTING = 32
MAX_NESTED_EXPONENTS = 10_000
"""Product of the exponents of groups: `((x^{9})^{9})^{9}`."""
MAX_BINOMIAL = 200

_ALLOWED = """
    frac sqrt pi infty cdot times div pm mp leq geq neq sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh
    ln log lg exp alpha beta gamma Gamma delta Delta epsilon varepsilon zeta eta theta Theta vartheta iota kappa
    lambda Lambda mu nu xi Xi rho sigma Sigma tau phi varphi Phi chi psi Psi omega Omega overline bar hat vec lfloor
    rfloor lceil rceil vert lvert rvert binom mathbb mathcal cup cap in setminus emptyset angle triangle circ prime
    ldots cdots dots mid max min gcd approx partial nabla hbar ell
"""
ALLOWED_WORDS = frozenset(_ALLOWED.split())

_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_WORD = re.compile(r"\\([A-Za-z]+)")
_BY_ZERO = re.compile(r"\\frac\{[^{}]*\}\{0+\}|(?:/|\\div) ?0+(?![\d.])")
_FACTORIAL = re.compile(r"(.?)\s*!(\s*!)?")
_BIG_FACTORIAL = re.compile(r"\d{4,}\s*!")
_BINOMIAL = re.compile(r"\\binom(?:\s*\{\s*(\w{1,3})\s*\}\s*\{\s*(\w{1,3})\s*\})?")

_EXPONENT = re.compile(r" *[-+]? *(?:[\d.]+|\\[A-Za-z]+|.)", re.ASCII)
"""One that is not in brackets."""


class Refused(ValueError):
    """The text is not given to any parser; the message ends a sentence that begins with what it is."""


def check_text(text: str) -> None:
    """Bounds for every answer.

    Raises:
        Refused: a number of more than 64 digits, or more than 32 levels of brackets.
    """
    if _DIGITS.search(text):
        raise Refused(f"has a number of more than {MAX_DIGITS} digits")
    depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            if depth > MAX_NESTING:
                raise Refused(f"is nested deeper than {MAX_NESTING} levels")
        elif character in ")]}":
            depth -= 1


def check_algebra(text: str) -> None:
    """Bounds for what computer algebra may read.

    Raises:
        Refused: commands outside the list (sums, integrals, products, limits), factorials of groups or of factorials,
            exponents and binomials of large numbers, a division by 0.
    """
    for word in _WORD.findall(text):
        if word not in ALLOWED_WORDS:
            raise Refused(f"has \\{word}, which is not checked by algebra")
    if _BY_ZERO.search(text):
        raise Refused("divides by zero")
    for before, twice in _FACTORIAL.findall(text):
        if twice or not (before.isalnum()):
            raise Refused("has a factorial of a group or of a factorial")
    if _BIG_FACTORIAL.search(text):
        raise Refused("has the factorial of a large number")
    for pair in _BINOMIAL.findall(text):
        if any(not part or (part.isdigit() and int(part) > MAX_BINOMIAL) for part in pair):
            raise Refused("has a binomial of large numbers")
    _check_exponents(text)


def _check_exponents(text: str) -> None:
    nested = 1
    for mark in re.finditer(r"\^|\*\*", text):
        exponent = _group(text, mark.end())
        if re.search(r"[A-Za-z]", exponent.replace("\\frac", "").replace("\\cdot", "").replace("\\times", "")):
            continue  # letters: bounded by what is put in for them
        value = exact_value(exponent)
        if value is None or abs(value) > MAX_EXPONENT:
            raise Refused("has a large exponent")
        if text[: mark.start()].rstrip().endswith((")", "}", "]")):
            nested *= max(1, abs(int(value)))
    if nested > MAX_NESTED_EXPONENTS:
        raise Refused("has large exponents of one another")


def _group(text: str, start: int) -> str:
    """What stands at `start`: brackets with what is in them, a number, a command or one character."""
    rest = text[start:].lstrip()
    if rest[:1] not in ("{", "("):
        found = _EXPONENT.match(rest)
        return found[0] if found else rest
    depth = 0
    for index, character in enumerate(rest):
        depth += (character in "{(") - (character in "})")
        if depth == 0:
            return rest[: index + 1]
    return rest
