"""Words as answers: equal but for case, spacing and a final period. Synonyms belong into the data, not here."""

from __future__ import annotations

import re

from pangu_rl.records import Part
from rewards.mathematics.normalise import plain
from rewards.rules.gold import Gold
from rewards.rules.verdict import bad_gold, unparsable, verdict
from rewards.rules.wrapped import wrapping

_SYMBOLS = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
    Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
    Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
ELEMENTS = frozenset(_SYMBOLS.split())
_WORDS_TOO = frozenset(("No", "In", "Ho", "Os", "Si", "Bi"))
_ONE_ELEMENT = {s for s in ELEMENTS - _WORDS_TOO if len(s) == 2 and {s[0], s[1].upper()} <= ELEMENTS}
_CASED = frozenset((*_ONE_ELEMENT, *(symbol.upper() for symbol in _ONE_ELEMENT)))
"""`Co` is cobalt and `CO` carbon monoxide; `no` and `NO` are one word."""
_FORMULA = re.compile(r"\d*((?:\(?[A-Z][a-z]?\d*(?:\)\d*)?)+)")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_COUNTED = re.compile(r"[A-Za-z)]\d")
_NO_COUNT = re.compile(r"[A-Za-z)](?:0|1(?!\d))")
"""Nobody writes H_1 or H_0: this is algebra."""
_RAISED_CHARGE = re.compile(r"(?:\^\{?| )(\d*[+-])\}?$")
_TERM_JOINT = re.compile(r"\+(?! ?[+=}]|$)|=|\\cdot ?")
_ARROW = re.compile(
    r"\\(?:long)?(?:left)?rightarrow(?![A-Za-z])|\\rightleftharpoons(?![A-Za-z])|→|-+>|={2,}"
    r"|\\x(?:rightarrow|longequal|rightleftharpoons)(?:\[[^\[\]]*\])?\{[^{}]*\}"
)
_ESCAPING = re.compile(r"[↑↓]|\\(?:up|down)arrow(?![A-Za-z])")
"""Gases and precipitates may be marked."""
_SCRIPTS = str.maketrans("", "", "_{}")
_LOOSE = str.maketrans("", "", "_{} ")
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
        BadGold: it is empty, only points elsewhere (`see image`), or has its answer in something.
    """
    text = plain(gold.text)
    if not text:
        raise bad_gold(gold, "is empty")
    if NON_ANSWERS.fullmatch(text):
        raise bad_gold(gold, "is no answer: it only points elsewhere")
    if what := wrapping(gold.text, gold.answer_type):
        raise bad_gold(gold, f"is no answer, it {what}: give the answer alone")
    return text


def text_key(text: str) -> str:
    """What two texts must share to be equal. Formulas and single letters keep their case: `CO2`, `NaCl`, `x`.

    Example: `text_key("Apple  Inc.")` is `"apple inc"`.
    """
    text = text.strip().strip("\"'").strip()
    formula = chemical_key(text)
    if formula or len(text) == 1 or text in _CASED:
        return formula or text
    text = _SPACE.sub(lambda match: f"{match[1]} " if match[1] else " ", text.translate(_SCRIPTS).casefold())
    return text.removesuffix(".").strip()


def chemical_key(text: str) -> str:
    """A formula or a reaction without the marks of its scripts, case kept: `CO2`, `Fe2O3`, `NaCl`, `Fe^3+`.

    Empty for anything else. A formula is of real elements and has a count, a charge, or two elements in mixed case;
    words have none of these. The terms of a side of a reaction come in one order. What may be algebra is no formula:
    `A^2`, `2N`, `N_1`, and a sum of `B_2` and `C_2`.
    """
    text = _ARROW.sub("=", _ESCAPING.sub("", text))
    if not any(character.isupper() for character in text):
        return ""
    terms = _TERM_JOINT.split(text)
    if len(terms) == 1:
        return _formula_key(text, alone=True)
    keys = [_formula_key(term.strip(), alone=False) for term in terms]
    compound = any(_is_compound(key) for key in keys)
    joints = [" + " if match.group() == "+" else match.group().strip() for match in _TERM_JOINT.finditer(text)]
    if not compound or not all(keys):
        return ""
    written = keys[0] + "".join(map("".join, zip(joints, keys[1:])))
    return "=".join("+".join(sorted(side.split(" + "))) for side in written.split("="))


def _formula_key(term: str, alone: bool) -> str:
    charge = ""
    if raised := _RAISED_CHARGE.search(term):
        term, charge = term[: raised.start()], raised[1]
    elif term.endswith(("+", "-")):
        term, charge = _without_charge(term[:-1].replace(" ", ""), term[-1])
    bare = term.translate(_LOOSE)
    formula = _FORMULA.fullmatch(bare)
    if not formula or _NO_COUNT.search(bare) or bare.count("(") != bare.count(")"):
        return ""
    symbols = _SYMBOL.findall(formula[1])
    if not ELEMENTS.issuperset(symbols):
        return ""
    counted = bool(_COUNTED.search(bare))
    if charge:
        return f"{bare}^{charge}"
    return bare if counted or not alone or _is_compound(bare) else ""


def _is_compound(formula: str) -> bool:
    """Whether it has several elements, and a count or an element of two letters, which products of variables lack."""
    symbols = _SYMBOL.findall(formula)
    return len(symbols) > 1 and (bool(_COUNTED.search(formula)) or any(len(symbol) == 2 for symbol in symbols))


def _without_charge(body: str, sign: str) -> tuple[str, str]:
    """`Fe3+` is `Fe^{3+}` and `NH4+` is `NH_4^+`: behind one element the digit is the charge's."""
    digits = len(body) - len(body.rstrip("0123456789"))
    one = body[: len(body) - digits] in ELEMENTS and digits == 1
    if one or (digits > 1 and not body[:-digits].endswith("_")):
        return body[:-1], body[-1] + sign
    return body, sign
