"""Whole numbers, for counts: `7`, `7.0`, `seven`, `There are 7 apples`. A range, a hedge or two numbers is none."""

from __future__ import annotations

import re
from fractions import Fraction

from pangu_rl.records import Part
from rewards.rules.compare import same_exact
from rewards.rules.gold import Gold
from rewards.rules.guard import Refused
from rewards.rules.math import gold_value
from rewards.rules.normalise import plain
from rewards.rules.number_words import WORDS, spelled_number
from rewards.rules.read_value import read_answer
from rewards.rules.values import Equation, Number, Text, Value
from rewards.rules.verdict import bad_gold, unparsable, verdict

_NUMERAL = re.compile(
    r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?![\w/-])|[零一二三四五六七八九十百千两]+|\d+(?=[\u4e00-\u9fff])"
)
_WORD_RUN = re.compile(r"\b(?:" + "|".join(sorted(WORDS, key=len, reverse=True)) + r")\b(?:[ -](?:and )?(?:"
                       + "|".join(sorted(WORDS, key=len, reverse=True)) + r")\b)*")  # fmt: skip
_HEDGE = re.compile(
    r"\b(?:not|no|never|or|more|less|fewer|least|most|over|under|above|below|about|around|approximately|between|almost|"
    r"nearly|maybe|either|neither|except|up to|first|than)\b|[?~<>±]|n't|不|或|约|"
    r"至少|至多|超过|大于|小于|左右|以上|以下",
    re.IGNORECASE,
)


def grade_integer(answer: str, gold: Gold) -> Part:
    """The `integer` type.

    Raises:
        BadGold: the gold is no whole number.
    """
    wanted = scalar_of(gold_value(gold))
    if wanted is None or (wanted.value * (100 if wanted.percent else 1)).denominator != 1:
        raise bad_gold(gold, "is no whole number")
    try:
        value = read_answer(answer)
    except Refused as refused:
        return unparsable(answer, str(refused))
    found = scalar_of(value) or (_only_number(plain(answer)) if isinstance(value, Text) else None)
    if found is None:
        return unparsable(answer, "is no single number")
    return verdict(same_exact(wanted, found), answer, gold)


def scalar_of(value: Value) -> Number | None:
    """The number that a value is, or that it gives a name: `7`, `x = 7`."""
    if isinstance(value, Equation) and value.name and len(value.sides) == 1:
        value = value.sides[0]
    return value if isinstance(value, Number) else None


def _only_number(sentence: str) -> Number | None:
    """The one number of a sentence."""
    if _HEDGE.search(sentence):
        return None
    lowered = sentence.casefold()
    found = [_value_of(match.group()) for pattern in (_NUMERAL, _WORD_RUN) for match in pattern.finditer(lowered)]
    digits = re.findall(r"\d+", re.sub(r"(?<=\d)[,./](?=\d)", "", lowered))
    if len(found) != 1 or found[0] is None or len(digits) > 1:
        return None
    return Number(found[0])


def _value_of(piece: str) -> Fraction | None:
    spelled = spelled_number(piece.replace(",", ""))
    if spelled is not None:
        return spelled
    bare = piece.replace(",", "")
    return Fraction(bare) if re.fullmatch(r"-?\d{1,64}(?:\.\d{1,64})?", bare, re.ASCII) else None
