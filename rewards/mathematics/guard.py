"""What may be given to computer algebra at all: bounds that are checked on the text, before anything parses it.

Sympy evaluates what it is given, so a dozen characters (`9!!!!`, `10^{10^{10}}`) cost all memory. The child that runs
it is killable; this keeps ordinary hostile input from costing a deadline each.
"""

from __future__ import annotations

import math
import re

from rewards.mathematics.arithmetic import MAX_DIGITS, MAX_EXPONENT, exact_value

MAX_NESTING = 32
MAX_NESTED_EXPONENTS = 10_000
"""Product of the exponents of groups: `((x^{9})^{9})^{9}`."""
MAX_BINOMIAL = 200
MAX_TOWER = 3
"""Exponents in exponents: `e^{-e^{-x^2}}` has three."""
MAX_EXPONENT_BITS = 1 << 15
"""Of the value of an exponent of e: so many digits more of it must be known."""
MAX_OTHER_BITS = 1 << 7
MAX_RATIONAL_BITS = 1 << 6
"""Of another exponent with powers like `y^9`, which sympy holds as a fraction."""
MAX_REDUCED_BITS = 1 << 15
"""Of what is reduced to a period or to a whole number: `\\sin(e^{e^9})`."""

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

_DECIMAL = re.compile(r"[\d.]+", re.ASCII)
_PART = re.compile(
    r"\\(?P<name>[A-Za-z]+)|(?P<number>\d+(?:\.\d*)?|\.\d+)|(?P<letter>[^\W\d_])|(?P<power>\^|\*\*)"
    r"|(?P<open>[({\[])|(?P<factorial>!)|.",
    re.DOTALL | re.ASCII,
)
_PLAIN_EXPONENT = re.compile(r"[{( ]*-? ?(\d{1,4})[)} ]*", re.ASCII)
_POWER = re.compile(r" ?(?:\^|\*\*)")
_NUMERIC_POWER = re.compile(r"(?:\^|\*\*)[{( ]*-?\d", re.ASCII)
_STRUCTURE = "frac sqrt cdot times div pm mp leq geq neq log ln lg circ vert lvert rvert binom mid"
_NO_VALUE = frozenset(_STRUCTURE.split())
_REDUCED = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
_EXPONENTIAL = frozenset(("exp", "sinh", "cosh", "tanh"))
_LETTER_BITS = 4.7
"""Of 26: what algebra puts in for a variable stays below."""
_E_BITS, _PI_BITS = 1.45, 1.7
_MOST_BITS = 1e9
"""More is not counted."""


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
            exponents, towers and binomials of large numbers, a division by 0.
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
    _bits(text, 0)


def _check_exponents(text: str) -> None:
    nested = 1
    for mark in re.finditer(r"\^|\*\*", text):
        exponent = _group(text, mark.end())
        if re.search(r"[A-Za-z]", exponent.replace("\\frac", "").replace("\\cdot", "").replace("\\times", "")):
            continue  # letters: `_bits` bounds these
        value = exact_value(exponent)
        if value is None or abs(value) > MAX_EXPONENT:
            raise Refused("has a large exponent")
        if text[: mark.start()].rstrip().endswith((")", "}", "]")):
            nested *= max(1, abs(int(value)))
    if nested > MAX_NESTED_EXPONENTS:
        raise Refused("has large exponents of one another")


def _bits(text: str, tower: int) -> float:
    """A bound of the bits of a value: each variable counts as 26, and a divisor as a factor.

    `tower` is how many exponents stand around `text`.

    Raises:
        Refused: an exponent of too many bits or inside too many others; a sine or a floor of too many bits.
    """
    sums = term = last = 0.0
    at = 0
    while part := _PART.match(text, at):
        at = part.end()
        if part["power"]:
            at = _end_of_exponent(text, at)
            of_e = text[: part.start()].rstrip().endswith("e")
            last = max(last, 1.0) * _raised(text[part.end() : at], tower, of_e)
        elif part["factorial"]:
            last *= 2 ** min(last, 30.0)
        else:
            term = min(term + last, _MOST_BITS)
            last, at = _bits_of(part, text, tower)
            if part.group() in "+-":
                sums, term = _of_sum(sums, term), 0.0
    return min(_of_sum(sums, term + last), _MOST_BITS)


def _of_sum(one: float, other: float) -> float:
    return max(one, other) + math.log2(1 + 2.0 ** -abs(one - other))


def _bits_of(part: re.Match[str], text: str, tower: int) -> tuple[float, int]:
    """Of a number, a name, a group or a function with its argument, and where it ends."""
    at, name = part.end(), part["name"]
    if part["number"]:
        return abs(math.log2(float(part["number"]) or 1.0)), at
    if part["letter"]:
        return _E_BITS if part["letter"] == "e" else _LETTER_BITS, at
    if part["open"]:
        end = _end_of_group(text, part.start())
        return _bits(text[at : max(at, end - 1)], tower), end
    if name in _REDUCED or name in ("lfloor", "lceil"):
        end = _end_of_argument(text, at) if name in _REDUCED else max(at, text.find("\\r" + name[1:], at))
        bits = _bits(text[at:end], tower)
        if bits > MAX_REDUCED_BITS:
            raise Refused(f"has the {name} of a large number")
        return bits, end
    if name in _EXPONENTIAL:
        end = _end_of_argument(text, at)
        return _E_BITS * _raised(text[at:end], tower, True), end
    if name == "pi":
        return _PI_BITS, at
    return 0.0 if name is None or name in _NO_VALUE else _LETTER_BITS, at


def _raised(exponent: str, tower: int, of_e: bool) -> float:
    """The bound of an exponent's value."""
    if tower >= MAX_TOWER:
        raise Refused(f"has exponents in one another, more than {MAX_TOWER}")
    bits = _bits(exponent, tower + 1)
    others = MAX_RATIONAL_BITS if _NUMERIC_POWER.search(exponent) else MAX_OTHER_BITS
    if bits > (MAX_EXPONENT_BITS if of_e else others):
        raise Refused("has a large exponent")
    plain_number = _PLAIN_EXPONENT.fullmatch(exponent)
    return float(plain_number[1]) if plain_number else 2 ** min(bits, 30.0)


def _end_of_argument(text: str, start: int) -> int:
    """Where the argument of a function ends: its group, or all up to the next sum, with what raises the function."""
    at = _skip_space(text, start)
    if text[at : at + 1] == "^":
        at = _skip_space(text, _end_of_group(text, at + 1))
    if text[at : at + 1] in ("(", "{", "["):
        return _end_of_group(text, at)
    depth = 0
    for index in range(at, len(text)):
        depth += (text[index] in "({[") - (text[index] in ")}]")
        if depth <= 0 and index > at and text[index] in "+-=<>,":
            return index
    return len(text)


def _end_of_exponent(text: str, start: int) -> int:
    """Of `b^c`, behind the mark in `a^b^c`."""
    at = _end_of_group(text, start)
    while mark := _POWER.match(text, at):
        at = _end_of_group(text, mark.end())
    return at


def _end_of_group(text: str, start: int) -> int:
    """Where what stands at `start` ends: brackets, a command with its groups, a number or one character."""
    at = _skip_space(text, start)
    if text[at : at + 1] in ("-", "+"):
        at = _skip_space(text, at + 1)
    if text[at : at + 1] in ("(", "{", "["):
        at = _end_of_brackets(text, at)
    elif command := _WORD.match(text, at):
        at = command.end()
        while text[at : at + 1] == "{":
            at = _end_of_brackets(text, at)
    else:
        number = _DECIMAL.match(text, at)
        at = number.end() if number else min(at + 1, len(text))
    return at


def _end_of_brackets(text: str, start: int) -> int:
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] in "({[") - (text[index] in ")}]")
        if depth == 0:
            return index + 1
    return len(text)


def _skip_space(text: str, start: int) -> int:
    while text[start : start + 1] == " ":
        start += 1
    return start


def _group(text: str, start: int) -> str:
    rest = text[start:].lstrip()
    if rest[:1] not in ("{", "("):
        return rest[: _end_of_group(rest, 0)]
    depth = 0
    for index, character in enumerate(rest):
        depth += (character in "{(") - (character in "})")
        if depth == 0:
            return rest[: index + 1]
    return rest
