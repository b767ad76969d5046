"""Infinitely many answers by one integer: `\\frac{\\pi}{4} + k\\pi, k \\in \\mathbb{Z}`. Text -> **a family**.

Its letter is free, and so is where it begins to count: `\\frac{5\\pi}{4} - n\\pi` is the same family.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards.mathematics.values import Equation, Expr, Family, Number, Row, Value

LETTER = "\\kappa"
"""What the parameter of every family is called once it is read."""
_INTEGER = re.compile(
    r"(?P<body>.+?) ?[,;:]? ?\(? ?(?:where |with |for )?(?P<letter>[a-z])"
    r"(?: ?\\in ?(?:\\mathbb ?\{?Z\}?|Z|\\mathbf ?\{?Z\}?)| (?:is )?(?:an|any) integer|为整数|是整数) ?\)?",
    re.DOTALL,
)
_NATURALS = re.compile(
    r"[ ,;:]{0,3}\(? ?n"
    r"(?: ?\\in ?(?:\\mathbb ?\{? ?)?[NZ] ?\}? ?(?:[*+]|[\^_] ?\{? ?(?:[*+]|\\cdot) ?\}?)"
    r"| ?\\geq ?1| ?[为是]正整数| (?:is )?(?:a )?positive integer) ?\)?$"
)
_SETS = re.compile(r"\\(?:pi|leq|geq|neq|in)(?![A-Za-z])|[<>°]|[(,=+-]$")
"""Angles and relations, where what n may be is part of the answer."""
_BUILDER = re.compile(r"\\\{ ?[a-z] ?(?:\||\\mid|\\vert|:) ?(.+?) ?\\\}", re.DOTALL)
_UNSAID = ("k", "n", "m")
"""Letters that are integers where nobody says what they are, beside a gold or an answer that says so."""


def read_family(text: str, read: Callable[[str], Value]) -> Family | None:
    builder = _BUILDER.fullmatch(text)
    match = _INTEGER.fullmatch(builder[1] if builder else text)
    return _family(match["body"], match["letter"], read) if match else None


def without_naturals(text: str) -> str:
    """`text` without the remark that its formula is for n = 1, 2, 3, ..., as `a_n = 2n - 1 (n \\in \\mathbb{N}^*)`."""
    match = _NATURALS.search(text)
    body = text[: match.start()] if match else ""
    return body if _named("n").search(body) and not _SETS.search(body) else text


def as_family(value: Value) -> Family | None:
    """`value` as a family, if it is one or has one of the usual letters."""
    if isinstance(value, Family):
        return value
    members = _members(value)
    if not members:
        return None
    text = " ".join(member.text for member in members)
    letter = next((letter for letter in _UNSAID if _named(letter).search(text)), None)
    return Family(tuple(Expr(_renamed(member.text, letter)) for member in members)) if letter else None


def _family(body: str, letter: str, read: Callable[[str], Value]) -> Family | None:
    if not _named(letter).search(body):
        return None
    members = _members(read(_renamed(body, letter)))
    return Family(members) if members else None


def _members(value: Value) -> tuple[Expr, ...]:
    """The expressions of a value that is one, a list or set of some, or an equation that names them; else none."""
    if isinstance(value, Expr):
        return (value,) if value.unit is None else ()
    if isinstance(value, Number):
        return (Expr(str(value.value)),) if value.unit is None else ()
    if isinstance(value, Equation):
        return _members(value.sides[-1]) if value.name else ()
    if isinstance(value, Row) and value.brackets in ("", "{}"):
        parts = [_members(item) for item in value.items]
        return tuple(member for part in parts for member in part) if all(parts) else ()
    return ()


def _renamed(text: str, letter: str) -> str:
    return _named(letter).sub(lambda _: LETTER + " ", text)


def _named(letter: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])")
