"""Mathematical answers and everything that `auto` does not know better: one value against another."""

from __future__ import annotations

import re

from pangu_rl.records import Part
from rewards.mathematics.compare import Leaves, WithoutAlgebra, same
from rewards.mathematics.guard import Refused
from rewards.mathematics.normalise import MAX_ANSWER_CHARS, plain
from rewards.mathematics.read_notation import read_ratio
from rewards.mathematics.read_value import read_answer, read_gold_value
from rewards.mathematics.values import Clock, Expr, Number, Ratio, Text, Value
from rewards.rules.gold import Gold
from rewards.rules.text import gold_text, text_key
from rewards.rules.verdict import bad_gold, unparsable, verdict

_LETTERS_BY_DASHES = re.compile(r"[a-z](?: ?- ?[a-z]){2,}")


def grade_math(answer: str, gold: Gold, leaves: Leaves | None = None) -> Part | None:
    """The verdict, or None if it takes computer algebra and `leaves` has none.

    The gold's own spelling is correct whatever it means: `\\sum_{k=1}^n k`, which nothing here can compare.

    Raises:
        BadGold: the gold is empty, no answer, too long, or, against another spelling, beyond what the guard lets pass.
    """
    _check_gold(gold)
    if len(answer) <= MAX_ANSWER_CHARS and _same_spelling(answer, gold):
        return verdict(True, answer, gold)
    wanted = gold_value(gold)
    try:
        found = read_answer(answer)
        equal = same(*_read_alike(wanted, found, answer, gold), leaves or WithoutAlgebra())
    except Refused as refused:
        return unparsable(answer, str(refused))
    return None if equal is None else verdict(equal, answer, gold)


def gold_value(gold: Gold) -> Value:
    """The gold, read.

    Raises:
        BadGold: see `grade_math`.
    """
    _check_gold(gold)
    try:
        return read_gold_value(gold.text)
    except Refused as refused:
        raise bad_gold(gold, f"{refused}: only its own spelling can match") from None


def _check_gold(gold: Gold) -> None:
    if len(gold.text) > MAX_ANSWER_CHARS:
        raise bad_gold(gold, f"is longer than {MAX_ANSWER_CHARS} characters")
    gold_text(gold)


def _same_spelling(answer: str, gold: Gold) -> bool:
    return plain(answer) == plain(gold.text)


def _read_alike(wanted: Value, found: Value, answer: str, gold: Gold) -> tuple[Value, Value]:
    """Forms that are ambiguous alone are read as the other side's: `12:15` beside a ratio, `5m` beside a length,
    `b-d-a` beside an order of letters."""
    if isinstance(wanted, Ratio) and isinstance(found, Clock):
        return wanted, read_ratio(plain(answer)) or found
    if isinstance(wanted, Text) and not gold.text.isalnum() and _LETTERS_BY_DASHES.fullmatch(plain(answer)):
        return wanted, Text(text_key(re.sub("[ -]", "", plain(answer))))
    if isinstance(wanted, Number | Expr) and wanted.unit and isinstance(found, Expr) and found.unit is None:
        return wanted, read_answer(answer, attached=True)
    if isinstance(wanted, Expr) and wanted.unit is None and isinstance(found, Number) and found.unit:
        return read_answer(gold.text, attached=True), found
    return wanted, found
