"""Python lists: ordered, of numbers, strings and lists. A literal is parsed, never evaluated."""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from typing import Any

from pangu_rl.records import Part
from rewards.mathematics.guard import Refused, check_text
from rewards.mathematics.normalise import MAX_ANSWER_CHARS, clean, plain
from rewards.mathematics.numbers import read_number
from rewards.mathematics.splitting import split_top
from rewards.rules.gold import Gold
from rewards.rules.text import gold_text, text_key
from rewards.rules.verdict import bad_gold, unparsable, verdict

# What `literal_eval` may see: it warns on stderr about other text, and model text has no business there. Possessive
# throughout: with a second way to read `35`, a row of numbers that is no list would take 2^n steps.
_LITERAL = re.compile(
    r"""(?:\s*+(?:"[^"\\\n]*+"|'[^'\\\n]*+'|[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:e[-+]?\d{1,3}+)?+(?![\w.])"""
    r"""|(?:True|False|None)\b|[\[\](),]))*+\s*+"""
)
_BRACED = re.compile(r"\\?\{(?! *\[.*\] *\}$)", re.DOTALL)
_COMMA = re.compile(r",")
_ESCAPED = re.compile(r"\\([\[\]_%&$#])")

Items = list["Fraction | str | bool | Items | None"]


def grade_list(answer: str, gold: Gold) -> Part:
    """The `list` type. Brackets may be missing around a list of several; numbers compare by value, strings as texts.

    Raises:
        BadGold: the gold is no list.
    """
    gold_text(gold)
    try:
        wanted = read_list(gold.text)
    except Refused as refused:
        raise bad_gold(gold, str(refused)) from None
    try:
        found = read_list(answer)
    except Refused as refused:
        return unparsable(answer, str(refused))
    return verdict(list_key(found) == list_key(wanted), answer, gold)


def read_list(text: str) -> Items:
    """The items of a list.

    Raises:
        Refused: too long, nested too deep, or no list.
    """
    if len(text) > MAX_ANSWER_CHARS:
        raise Refused(f"is longer than {MAX_ANSWER_CHARS} characters")
    check_text(text)
    if _BRACED.match(clean(text).strip("$ ")):
        raise Refused("is a set and no list")
    written = _ESCAPED.sub(r"\1", plain(text) if '"' not in text and "'" not in text else clean(text).strip("$ "))
    if not _LITERAL.fullmatch(written):
        return _split(written)
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _split(written)
    if not isinstance(value, list | tuple):
        raise Refused("is no list")
    return _items(value)


def _items(value: Any) -> Items:
    found: Items = []
    for item in value:
        if isinstance(item, list | tuple):
            found.append(_items(item))
        elif isinstance(item, bool) or item is None:
            found.append(item)
        elif isinstance(item, int | float):
            number = read_number(repr(item))
            if number is None:
                raise Refused("has a number that is not finite")
            found.append(number.value)
        elif isinstance(item, str):
            found.append(item)
        else:
            raise Refused(f"has a {type(item).__name__} in it")
    return found


def _split(text: str) -> Items:
    """Words without quotes, fractions: what is a list but no Python literal."""
    inner = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
    pieces = split_top(inner, _COMMA)
    if (inner is text and len(pieces) < 2) or any(not piece for piece in pieces):
        raise Refused("is no list")
    return [_item(piece) for piece in pieces]


def _item(piece: str) -> Fraction | str | Items:
    if piece[:1] in "[(" and piece[-1:] in "])":
        return _split(piece)
    number = read_number(piece)
    return number.value if number else piece.strip("\"'")


def list_key(items: Items) -> list[Any]:
    """What two lists must share; the kind stands beside each value, so that 1, `"1"` and True stay apart."""
    return [
        ("list", list_key(item)) if isinstance(item, list)
        else ("text", text_key(item)) if isinstance(item, str)
        else (type(item).__name__, item)
        for item in items
    ]  # fmt: skip
