"""Words as answers: equal but for case, spacing and a final period. Synonyms belong into the data, not here."""

from __future__ import annotations

import re

from pangu_rl.records import Part
from rewards.rules.gold import Gold
from rewards.rules.normalise import plain
from rewards.rules.verdict import bad_gold, unparsable, verdict

_FORMULA = re.compile(r"\d*(?:\(?[A-Z][a-z]?\d*(?:\)\d*)?)+(?:\d*[+-])?")
_ELEMENTS = re.compile(r"(?:[A-Z][a-z]?){2,}")
_TERM_JOINT = re.compile(r"[+=](?!$)")
_COUNTED = re.compile(r"[A-Za-z)]\d")
_SCRIPTS = str.maketrans("", "", "_{}")
_SPACE = re.compile(r"\s*([,;:])\s*|\s+")
NON_ANSWERS = re.compile(
    r"(?:see|refer to|as shown in|shown in)(?: the)?(?: attached| above| below)? ?"
    r"(?:image|images|picture|figure|fig|diagram|graph|solution|solutions|explanation|explanations|answer|proof|above|"
    r"below|attachment|text|table)|(?:answer )?(?:omitted|not provided|not available|to be determined|unavailable)|"
    r"proof|answers? (?:may |will )?vary|n/a|tbd|todo|(?-i:null|NULL|nan|NaN)|略|"
    r"见图|如图|如图所示|见解析|见答案|答案略|证明略|见上图|见下图",
    re.IGNORECASE,
)
"""Golds that only point elsewhere. No completion can be held to them, so they are reported and not matched."""


def grade_text(answer: str, gold: Gold) -> Part:
    """The `text` type."""
    wanted = text_key(gold_text(gold))
    if not wanted:
        raise bad_gold(gold, "is empty")
    found = text_key(plain(answer))
    if not found:
        return unparsable(answer, "is empty")
    return verdict(found == wanted, answer, gold)


def gold_text(gold: Gold) -> str:
    """The gold in its plain form.

    Raises:
        BadGold: it is empty, or only points elsewhere (`see image`).
    """
    text = plain(gold.text)
    if not text:
        raise bad_gold(gold, "is empty")
    if NON_ANSWERS.fullmatch(text):
        raise bad_gold(gold, "is no answer: it only points elsewhere")
    return text


def text_key(text: str) -> str:
    """What two texts must share to be equal. Formulas and single letters keep their case: `CO2`, `NaCl`, `x`.

    Example: `text_key("Apple  Inc.")` is `"apple inc"`.
    """
    text = text.strip().strip("\"'").strip()
    formula = chemical_key(text)
    if formula or len(text) == 1:
        return formula or text
    text = _SPACE.sub(lambda match: f"{match[1]} " if match[1] else " ", text.translate(_SCRIPTS).casefold())
    return text.removesuffix(".").strip()


def chemical_key(text: str) -> str:
    """A formula or a reaction without the marks of its scripts, case kept: `CO2`, `Fe2O3`, `NaCl`, `2H2+O2=2H2O`.

    Empty for anything else. A formula has a digit, a charge, or two elements in mixed case; words have none of these.
    """
    bare = text.replace("\\rightarrow", "=").replace("→", "=").replace("^", "").translate(_SCRIPTS).replace(" ", "")
    if _FORMULA.fullmatch(bare):
        telling = any(c.isdigit() for c in bare) or bare[-1] in "+-"
        return bare if telling or (_ELEMENTS.fullmatch(bare) and not bare.isupper()) else ""
    terms = _TERM_JOINT.split(bare)
    reaction = len(terms) > 1 and all(map(_FORMULA.fullmatch, terms)) and any(map(_COUNTED.search, terms))
    return bare if reaction else ""
