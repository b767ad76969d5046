"""Infinitely many answers by one integer: `\\frac{\\pi}{4} + k\\pi, k \\in \\mathbb{Z}`. Text -> **a family**.

Its letter is free, and so is where it begins to count: `\\frac{5\\pi}{4} - n\\pi` is the same family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rewards.mathematics.guard import Refused
from rewards.mathematics.units import read_unit
from rewards.mathematics.values import Equation, Expr, Family, Infinite, Number, Row, Text, Union, Value

LETTER = "\\kappa"
"""What the parameter of every family is called once it is read."""
_Z = r"\\in ?(?:\\mathbb ?\{?Z\}?|Z|\\mathbf ?\{?Z\}?)"
_L = r"(?<![A-Za-z\\])[a-z]"
_BOTH_WAYS = r"(?=.*(?:\\pm|-))(?=.*(?:dots|\.\.\.))(?:(?:\\[lc]?dots|\.\.\.|\\pm ?\d|-?\d)[ ,]{0,2}){2,}"
_SAID = re.compile(
    r" ?(?:[,;:|]|\\(?:mid|vert)(?![A-Za-z]))? ?\(? ?(?:where |with |for )?(?:"
    rf"(?:all |any |every |each |some )?(?:\\forall ?)?(?P<in>{_L}) ?{_Z}|\\forall ?(?P<all>{_L})"
    rf"|(?:all |any |every |each |some )?integers? (?:values? (?:of )?)?(?P<of>{_L})"
    rf"|(?P<is>{_L})(?: (?:is |being )?(?:an |any |some )?(?:arbitrary )?integer|[为是](?:任意)?整数)"
    rf"|(?P<list>{_L}) ?= ?{_BOTH_WAYS}"
    r") ?\)?$"
)
"""That a letter is an integer, at the end of a family."""
_NATURALS = re.compile(
    r"[ ,;:]{0,3}\(? ?n"
    r"(?: ?\\in ?(?:\\mathbb ?\{? ?)?[NZ] ?\}? ?(?:[*+]|[\^_] ?\{? ?(?:[*+]|\\cdot) ?\}?)"
    r"| ?\\geq ?1| ?[为是]正整数| (?:is )?(?:a )?positive integer) ?\)?$"
)
_SETS = re.compile(r"\\(?:pi|leq|geq|neq|in)(?![A-Za-z])|[<>°]|[(,=+-]$")
"""Angles and relations, where what n may be is part of the answer."""
_BUILDER = re.compile(
    r"\\\{ ?(?:(?:[a-z]|\\(?:alpha|beta|theta|phi|omega))(?: ?\\in ?(?:\\mathbb ?\{?R\}?|R))?"
    r" ?(?:\||\\(?:mid|vert)(?![A-Za-z])|:) ?)?(.+?) ?\\\}",
    re.DOTALL,
)
_UNSAID = ("k", "n", "m")
"""Letters that are integers where nobody says what they are, beside a gold or an answer that says so."""


def read_family(text: str, read: Callable[[str], Value]) -> Family | None:
    """
    Raises:
        Refused: that a letter is an integer is said of something that has no members which could be compared.
    """
    if builder := _BUILDER.fullmatch(text):
        text = builder[1]
    said = _SAID.search(text)
    letter = said and next(filter(None, said.groups()))
    body = text[: said.start()] if said else ""
    if not letter or not _named(letter).search(body):
        return None
    value = read(_renamed(body, letter))
    if isinstance(value, Text):
        return None
    members = _members(value)
    if not members:
        raise Refused("is a family that is not compared")
    return Family(members)


def without_naturals(text: str) -> str:
    """`text` without the remark that its formula is for n = 1, 2, 3, ..., as `a_n = 2n - 1 (n \\in \\mathbb{N}^*)`."""
    match = _NATURALS.search(text)
    body = text[: match.start()] if match else ""
    return body if _named("n").search(body) and not _SETS.search(body) else text


def as_family(value: Value) -> Family | None:
    """`value` as a family, if it is one or has one of the usual letters in each of its members."""
    if isinstance(value, Equation) and value.name:
        value = value.sides[-1]
    if isinstance(value, Family):
        return value
    members = _members(value)
    texts = [" ".join(formula.text for formula in member.items) for member in members]  # type: ignore[union-attr]
    letter = next((letter for letter in _UNSAID if texts and all(map(_named(letter).search, texts))), None)
    return Family(tuple(_with_parameter(member, letter) for member in members)) if letter else None


def _members(value: Value) -> tuple[Row, ...]:
    """The formulas of a value that is one, an interval, a point, a list or set of such, or an equation that names them;
    else none. Numbers that are left out (`x \\neq k\\pi`) come in the brackets `!=`."""
    if isinstance(value, Family):
        return value.members
    if isinstance(value, Expr | Number):
        return _in_brackets("", (value,))
    if isinstance(value, Equation):
        return _members(value.sides[-1]) if value.name else ()
    if isinstance(value, Union):
        hole = _hole(value)
        return _in_brackets("!=", (hole,)) if hole else _together(value.parts)
    if isinstance(value, Row):
        return _together(value.items) if value.brackets in ("", "{}") else _in_brackets(value.brackets, value.items)
    return ()


def _together(values: Sequence[Value]) -> tuple[Row, ...]:
    parts = [_members(value) for value in values]
    return tuple(member for part in parts for member in part) if all(parts) else ()


def _in_brackets(brackets: str, items: Sequence[Value]) -> tuple[Row, ...]:
    formulas = tuple(formula for item in items if (formula := _formula(item)))
    return (Row(brackets, formulas),) if len(formulas) == len(items) else ()


def _formula(value: Value) -> Expr | None:
    """A number or an expression as one of radians; None for anything else, or of another unit."""
    if not isinstance(value, Expr | Number):
        return None
    text = value.text if isinstance(value, Expr) else str(value.value)
    if value.unit is None:
        return Expr(text)
    if value.unit != read_unit("°"):
        return None
    return Expr(f"{text}°" if "°" in text else rf"({text})\cdot\frac{{\pi}}{{180}}")


def _hole(union: Union) -> Value | None:
    """What is left out of the line by two open rays."""
    rays = [part.items for part in union.parts if isinstance(part, Row) and part.brackets == "()"]
    if len(rays) == len(union.parts) == 2 and rays[0][0] == Infinite(-1) and rays[1][1] == Infinite(1):
        return rays[0][1] if rays[0][1] == rays[1][0] else None
    return None


def _with_parameter(member: Row, letter: str) -> Row:
    return Row(member.brackets, tuple(Expr(_renamed(one.text, letter)) for one in member.items))  # type: ignore


def _renamed(text: str, letter: str) -> str:
    return _named(letter).sub(lambda _: LETTER + " ", text)


def _named(letter: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])")
