"""Whole numbers, for counts: `7`, `7.0`, `seven`, `There are 7 apples`. A range, a hedge or two numbers is none."""

from __future__ import annotations

import re
from fractions import Fraction

from pangu_rl.records import Part
from rewards.mathematics.compare import same_exact
from rewards.mathematics.guard import Refused
from rewards.mathematics.normalise import plain
from rewards.mathematics.number_words import WORDS, spelled_number
from rewards.mathematics.read_value import read_answer
from rewards.mathematics.units import CHANGING_WORDS
from rewards.mathematics.values import Equation, Number, Text, Value
from rewards.rules.gold import Gold
from rewards.rules.math import gold_value
from rewards.rules.verdict import bad_gold, unparsable, verdict

_SIGN = r"(?:(?:minus|negative) )?"
_NUMERAL = re.compile(
    r"(?:(?<![A-Za-z0-9_.-])" + _SIGN + r"|负 ?|(?<![A-Za-z0-9_.-])-)(?<![\d.])\d[\d,]*(?:\.\d+)?[百千万亿]*"
    r"(?:/\d+)?(?![A-Za-z0-9_/-])|负?[零〇一二三四五六七八九十百千万亿两]+",
    re.ASCII,
)
_WORD = "(?:" + "|".join(sorted(WORDS, key=len, reverse=True)) + ")"
_WORD_RUN = re.compile(rf"\b{_SIGN}{_WORD}\b(?:[ -](?:and )?{_WORD}\b)*")
_HARMLESS = """
    and of is are was be the an for from with at on as to am all each only exactly that which both also true yes
    remainder solution solutions before after score base
"""
_HEDGES = """
    or almost nearly around maybe up first than fewer instead besides excluding hardly barely scarcely nowhere unless
    unlikely apart aside else
"""
_REFUSED = (CHANGING_WORDS - frozenset(_HARMLESS.split())) | frozenset(_HEDGES.split())
"""Words that change, deny or hedge the number of a sentence, wherever they stand."""
_MARKS = re.compile(
    r"[?~<>±+*^%|_√]|\d ?!|\\(?!Rightarrow|implies|therefore)[A-Za-z]|- (?=\d)|n't|\b(?:many|few|much) as\b|\d score\b"
    r"|[不没无非未或约错几余多半倍]|至少|至多|超过|大于|小于|少于|左右|以[上下内外]|分之|大概|可能|根号|平方|立方|次方"
    r"|倒数|相反|阶乘|除了|减去|加上|[第近差](?=[\d一二三四五六七八九十百千两])|(?<=[\d一二三四五六七八九十百千两])[打折成]",
    re.ASCII,
)
_BEFORE = re.compile(
    r"\b(?:from|to|by|after|before|past|beyond|until|till|per|versus|some|another|every|next|last"
    r"|(?<!total )(?<!number )(?<!count )(?<!group )(?<!set )of(?: the| these| those)?) $"
)
"""What makes the number behind it another one: `far from 7`, `divisible by 7`, `a multiple of 7`."""


def grade_integer(answer: str, gold: Gold) -> Part:
    """The `integer` type.

    Raises:
        BadGold: the gold is no whole number.
    """
    wanted = scalar_of(gold_value(gold))
    if wanted is None or (wanted.value * (100 if wanted.percent else 1)).denominator != 1:
        raise bad_gold(gold, "is no whole number")
    try:
        found = read_count(answer)
    except Refused as refused:
        return unparsable(answer, str(refused))
    if found is None:
        return unparsable(answer, "is no single number")
    return verdict(same_exact(wanted, found), answer, gold)


def read_count(answer: str) -> Number | None:
    """The number that an answer is, or the only one of its sentence.

    Raises:
        Refused: as `read_answer`.
    """
    value = read_answer(answer)
    return scalar_of(value) or (_only_number(plain(answer)) if isinstance(value, Text) else None)


def scalar_of(value: Value) -> Number | None:
    """The number that a value is, or that it gives a name: `7`, `x = 7`."""
    if isinstance(value, Equation) and value.name and len(value.sides) == 1:
        value = value.sides[0]
    return value if isinstance(value, Number) else None


def _only_number(sentence: str) -> Number | None:
    """The one number of a sentence in which no other word changes it."""
    lowered = sentence.casefold().replace("一共", "共").replace("**", "")
    found = [match for pattern in (_NUMERAL, _WORD_RUN) for match in pattern.finditer(lowered)]
    digits = re.findall(r"\d+", re.sub(r"(?<=\d)[,./](?=\d)", "", lowered))
    if len(found) != 1 or len(digits) > 1 or _MARKS.search(lowered):
        return None
    before, after = lowered[: found[0].start()], lowered[found[0].end() :]
    if "负" in before + after or _BEFORE.search(before[-20:]):
        return None
    if not _REFUSED.isdisjoint(re.findall(r"[a-z]+", f"{before} {after}")):
        return None
    value = _value_of(found[0].group())
    return Number(value) if value is not None else None


def _value_of(piece: str) -> Fraction | None:
    piece = re.sub(r"(?:minus |negative |负 ?)(?=\d)", "-", piece.replace(",", ""))
    spelled = spelled_number(piece)
    if spelled is not None:
        return spelled
    return Fraction(piece) if re.fullmatch(r"-?\d{1,64}(?:\.\d{1,64})?", piece, re.ASCII) else None
