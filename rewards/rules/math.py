"""Mathematical answers and everything that `auto` does not know better: one value against another."""

from __future__ import annotations

import functools
import re

from pangu_rl.records import Part
from rewards.mathematics.compare import Leaves, WithoutAlgebra, same
from rewards.mathematics.expressions import has_variables, is_product
from rewards.mathematics.families import without_naturals
from rewards.mathematics.guard import Refused
from rewards.mathematics.normalise import MAX_ANSWER_CHARS, plain
from rewards.mathematics.read_intervals import EVERYTHING
from rewards.mathematics.read_notation import read_ratio
from rewards.mathematics.read_value import answer_text, read_answer, read_gold_value
from rewards.mathematics.values import Clock, Equation, Expr, Family, Number, Ratio, Text, Value
from rewards.rules.gold import Gold
from rewards.rules.text import chemical_key, gold_text, text_key
from rewards.rules.verdict import bad_gold, unparsable, verdict
from rewards.rules.wrapped import is_prose, is_solution

_TIMES = re.compile(r"\\(?:cdot|times) ?|[* ]")
_LETTER_UNIT = re.compile(r"-?\d[\d.,]*[NAVJW]")
"""Newtons and volts behind a number are no variables where the gold has none."""
_OPTION = re.compile(r"(?:[A-E][.)]|\([A-E]\)) (..+)", re.DOTALL)
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
        if isinstance(found, Family) != isinstance(wanted, Family) and any(map(_of_naturals, (answer, gold.text))):
            return verdict(False, answer, gold)  # for all integers is not for the positive ones
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
    if fault := _fault(gold.text, bool(gold.choices)):
        raise bad_gold(gold, fault)


@functools.lru_cache(maxsize=4096)
def _fault(gold: str, choices: bool) -> str:
    """Why a gold that can be read is held to be no answer; empty if it is one."""
    try:
        words = isinstance(read_gold_value(gold), Text)
        text = answer_text(gold)
    except Refused:
        words, text = True, plain(gold)
    if is_solution(text) or (words and is_prose(text)):
        return "is no answer, it is a solution: give the answer alone"
    option = None if choices else _OPTION.fullmatch(text)
    if option and not isinstance(_read_or_words(option[1]), Text):
        return "names an option, and there are no choices: give them, or the answer alone"
    return ""


def _read_or_words(text: str) -> Value:
    try:
        return read_answer(text)
    except Refused:
        return Text(text)


def _same_spelling(answer: str, gold: Gold) -> bool:
    found, wanted = plain(answer), plain(gold.text)
    if found == wanted:
        return True
    return _letters(found) == _letters(wanted) != [] and not (chemical_key(found) and chemical_key(wanted))


def _read_alike(wanted: Value, found: Value, answer: str, gold: Gold) -> tuple[Value, Value]:
    """Forms that are ambiguous alone are read as the other side's: `12:15` beside a ratio, `5m` beside a length,
    `b-d-a` beside an order of letters."""
    if isinstance(wanted, Ratio) and isinstance(found, Clock):
        return wanted, read_ratio(plain(answer)) or found
    if isinstance(wanted, Text) and not gold.text.isalnum() and _LETTERS_BY_DASHES.fullmatch(plain(answer)):
        return wanted, Text(text_key(re.sub("[ -]", "", plain(answer))))
    if wanted == EVERYTHING and plain(answer) == "R":
        return wanted, EVERYTHING
    if found == EVERYTHING and plain(gold.text) == "R":
        return EVERYTHING, found
    wants, finds = _last_side(wanted), _last_side(found)
    if wants is None or finds is None:
        return wanted, found
    if isinstance(wants, Number) and _LETTER_UNIT.fullmatch(plain(answer)):
        return wanted, read_answer(answer, units="attached")
    if wants.unit and finds.unit and _has_letters(wants) and _has_letters(finds):
        return read_answer(gold.text, units="none"), read_answer(answer, units="none")
    if bool(wants.unit) == bool(finds.unit):
        return wanted, found
    if finds.unit and isinstance(wants, Expr) and isinstance(finds, Number):
        wanted = read_answer(gold.text, units="attached")
    elif wants.unit and isinstance(finds, Expr):
        found = read_answer(answer, units="attached")
    wants, finds = _last_side(wanted), _last_side(found)
    if wants and finds and wants.unit and not finds.unit and _has_letters(finds):
        return read_answer(gold.text, units="none"), found
    if wants and finds and finds.unit and not wants.unit and _has_letters(wants):
        return wanted, read_answer(answer, units="none")
    return wanted, found


def _last_side(value: Value) -> Number | Expr | None:
    value = value.sides[-1] if isinstance(value, Equation) else value
    return value if isinstance(value, Number | Expr) else None


def _has_letters(value: Number | Expr) -> bool:
    return isinstance(value, Expr) and has_variables(value.text)


def _letters(text: str) -> list[str]:
    """The factors of a product of nothing but letters, sorted; empty for anything else."""
    letters = _TIMES.sub("", text)
    return sorted(letters) if is_product(letters) else []


def _of_naturals(text: str) -> bool:
    return without_naturals(plain(text)) != plain(text)
