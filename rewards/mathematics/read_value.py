"""Text -> value: what kind of answer it is, by its form alone. Each reader knows one kind and says None else."""

from __future__ import annotations

import functools
import re
from typing import Literal

from rewards.mathematics.expressions import is_expression
from rewards.mathematics.families import read_family, without_naturals
from rewards.mathematics.guard import Refused, check_text
from rewards.mathematics.measures import read_sum_of_units
from rewards.mathematics.normalise import MAX_ANSWER_CHARS, plain, tidy
from rewards.mathematics.numbers import in_full, read_number
from rewards.mathematics.read_intervals import read_interval
from rewards.mathematics.read_notation import (
    checked_form,
    read_based,
    read_clock,
    read_expression,
    read_matrix,
    read_nothing,
    read_plain_number,
    read_range,
    read_ratio,
    read_system,
    with_unit,
)
from rewards.mathematics.splitting import outer_brackets, split_top
from rewards.mathematics.units import (
    CURRENCY_SIGNS,
    DENYING_WORDS,
    KNOWN_CHINESE,
    Unit,
    divided,
    read_unit,
    reads_as_product,
    split_price,
)
from rewards.mathematics.values import Equation, Expr, Nothing, Number, Row, Text, Value
from rewards.rules.date import read_date
from rewards.rules.text import chemical_key, text_key

_PREFIX = re.compile(
    r"(?:(?:so|thus|therefore|hence)[,:]? )?(?:the )?(?:final |correct |exact )?(?:answer|ans\.?|result|solution|value)"
    r"s?(?: is| are|:| =)+ |(?:最终)?(?:答案|结果)(?:是|为|:|=)+ ?|(?:so|thus|therefore|hence),? (?=\d|\\)"
    r"|\\approx ?|\\therefore ?|= ",
    re.IGNORECASE,
)
_COMMA = re.compile(r"[,;]")
_SPACED_COMMA = re.compile(r"[,;] ")
_LIST_JOINT = re.compile(r",? (?:and|or) |,? ?\\(?:lor|land|quad)(?![A-Za-z]) ?|[和或与]|[,;]| & |\\\\")
_EQUALS = re.compile(r"(?<![<>!:\\])=|\\equiv(?![A-Za-z])")
_NAME = re.compile(
    r"[A-Za-z\\Δ][A-Za-z\\ ]*(?:_ ?\{?\w+\}?)?'*(?: ?\([^()=\d]*\))?|\([A-Za-z](?: ?, ?[A-Za-z])+\)"
    r"|[\u4e00-\u9fff]{1,8}|\|[A-Z]{2}\||[A-Za-z]\(-?\d+\)"
    r"|\\(?:overline|vec|hat|bar|angle) ?\{[A-Za-z]+\}"
)
_GREEK = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi
    varphi chi psi omega
"""
_MARKS = """
    Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar angle measuredangle triangle odot square overline overparen
    overarc vec hat bar tilde widetilde dot mathcal mathbb cap cup mid circ prime max min lim det gcd lcm
    sin cos tan cot sec csc
"""
_NAMING = frozenset((*_GREEK.split(), *_MARKS.split()))
"""Commands that stand in names: a root or logarithm of x is no name of x, and `\\pi r` is a product. The sine of an
angle is asked for by its name, that of a variable is not."""
_LETTER = rf"(?:(?<![A-Za-z\\])[A-Za-z]|\\(?:{'|'.join(_GREEK.split())}))(?![A-Za-z])"
_LETTERS = re.compile(rf"{_LETTER} ?{_LETTER}")
_DERIVATIVE = re.compile(r"\\frac\{d[a-z]\}\{d[a-z]\}")
_INDEX = re.compile(r"(?<=[A-Za-z])_\d$")
_FUNCTIONS = frozenset(["sqrt", "log", "exp", "sinh", "cosh", "tanh"])
_OF_VARIABLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc) ?\(? ?[a-z]")
_NO_NAME = re.compile(r"[不非错没无负倍]|一半|平方|立方|次方|根号|倒数|相反|阶乘")
_PRODUCT = re.compile(r"(?<![A-Za-z\\])[a-z]{2}(?![A-Za-z(])")
_CURRENCY = re.compile(
    rf"(-?) ?(?:(?:US|CA|A|HK|RMB)?([{CURRENCY_SIGNS}])|(USD|EUR|GBP|CNY|RMB|JPY|INR|Rs)\.?(?= ?\d)) ?", re.ASCII
)
_LETTER_LIST = re.compile(r"[A-Za-z](?:(?: ?[,;、>]| ?\\rightarrow| ?→)? ?[A-Za-z])+|[A-Z](?: ?- ?[A-Z]){2,}")

_BEFORE_UNIT = re.compile(
    r"(?<=[\d)}!%a-z零〇一二三四五六七八九十百千万亿两])"
    r"(?= ?[^\W\d_]| ?[°$€£¥₹¢]| ?k?\\Omega| ?\\mu ?[A-Za-z]| ?\\frac)"
)

Units = Literal["spaced", "attached", "none"]


@functools.lru_cache(maxsize=4096)
def read_gold_value(gold: str) -> Value:
    """`read_answer`, remembered: a gold is read once for all its completions."""
    return read_answer(gold)


def read_answer(answer: str, units: Units = "spaced") -> Value:
    """The value of an answer of any kind but boxes. `attached` units read `5m` as five metres, else it is a
    product; with `none`, `5 m` is a product too.

    Raises:
        Refused: empty, too long, or beyond the guard's bounds.
    """
    text = answer_text(answer)
    return _read(without_naturals(text), units)


def answer_text(answer: str) -> str:
    """The plain form of an answer without what introduces it: `The answer is 5` is `5`.

    Raises:
        Refused: empty, too long, or beyond the guard's bounds.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        raise Refused(f"is longer than {MAX_ANSWER_CHARS} characters")
    text = plain(answer)
    if not text:
        raise Refused("is empty")
    check_text(text)
    text = tidy(_PREFIX.sub("", text, count=1)) if _PREFIX.match(text) else text
    if not text:
        raise Refused("is empty")
    return text


@functools.lru_cache(maxsize=8192)
def _read(text: str, units: Units = "spaced") -> Value:
    """The first reader that knows the form; words are what is left.

    Remembered, since a reader that gives up leaves its pieces to the next: without, nesting costs exponential time.
    """
    if not text:
        raise Refused("has an empty part")
    exact, approximate, rounded = text.partition("\\approx")
    if approximate:  # what is exact counts, and the rounding beside it does not
        text = f"{exact}={rounded}" if compact_name(exact.strip()) else exact.strip() or rounded.strip()
    value = (
        read_nothing(text)
        or read_date(text)
        or read_plain_number(text)
        or read_clock(text)
        or read_family(text, _read)
        or read_ratio(text)
        or read_range(text)
        or read_based(text)
        or read_sum_of_units(text)
        or _quantity(text, units)
        or read_matrix(text, _read)
        or read_system(text, _read)
        or _chemistry(text)
        or read_interval(text, _read)
        or _brackets(text)
        or _list(text)
        or _equation(text, units)
        or _two_signs(text)
    )
    return value if value is not None else _expression(text)


def _chemistry(text: str) -> Text | None:
    key = chemical_key(text)
    return Text(key) if key else None


def _quantity(text: str, units: Units) -> Value | None:
    """A number or an expression with a unit behind it, or a currency sign before it."""
    if units == "none":
        return None
    money, bought = split_price(text)
    if money != text:
        price, of = _quantity(money, units), read_unit(bought) if bought else Unit(())
        return with_unit(price, divided(price.unit, of)) if isinstance(price, Number) and price.unit and of else None
    if sign := _CURRENCY.match(text):
        amount = read_plain_number(in_full(sign[1] + text[sign.end() :]))
        return with_unit(amount, read_unit(sign[2] or sign[3])) if amount else None
    for gap in _BEFORE_UNIT.finditer(text):
        body, rest = text[: gap.start()].strip(), text[gap.start() :]
        unit = read_unit(rest) if len(rest) <= 48 else None
        if unit is None or (not body.isascii() and rest.strip() not in KNOWN_CHINESE):
            continue  # 三角形 counts nothing
        if units == "spaced" and reads_as_product(body, rest):
            continue
        number = read_plain_number(body)
        if number and not re.fullmatch(r"[eE].*", rest):
            return with_unit(number, unit)
        apart = rest[0] in " °" or not (rest[0].isascii() and body[-1].isalpha())
        if number is None and apart and _is_plain_expression(body, rest):
            return Expr(checked_form(body), unit)
    return None


def _is_plain_expression(body: str, rest: str) -> bool:
    letters = re.sub(r"\\[A-Za-z]+", "", body)
    if rest.startswith("°") and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", body):
        return False
    known = len(rest.strip()) > 1 or not re.search(r"[A-Za-z]", letters)
    return known and is_expression(body) and not _EQUALS.search(body) and not _COMMA.search(body) and "\\pm" not in body


def _list(text: str) -> Value | None:
    """Several answers without brackets: all values, no words. Letters in a row are an ordering and stay a text."""
    if _LETTER_LIST.fullmatch(text):
        letters = re.findall(r"[A-Za-z]", text.replace("\\rightarrow", ""))
        separated = re.search(r"[,;>→\\-]", text) or (" " in text and all(len(w) == 1 for w in text.split()))
        return Text(text_key("".join(letters))) if separated and letters else None
    pieces = split_top(text, _LIST_JOINT)
    if len(pieces) < 2:
        return None
    wide = split_top(text, _SPACED_COMMA)
    if len(wide) > 1 and all(read_number(piece) for piece in wide):
        pieces = wide
    pieces = [piece for piece in pieces if piece]
    if len(pieces) < 2:
        return None
    items: list[Value] = []
    for piece in pieces:
        value = _read(tidy(piece))
        if isinstance(value, Text):
            return None
        items.extend(value.items if isinstance(value, Row) and not value.brackets else (value,))
    return Row("", tuple(items))


def _equation(text: str, units: Units) -> Value | None:
    pieces = split_top(text, _EQUALS)
    if len(pieces) < 2 or any(not piece for piece in pieces):
        return None
    if len(pieces) == 2 and compact_name(pieces[1]) and not compact_name(pieces[0]):
        pieces.reverse()  # 5 = x
    name = compact_name(pieces[0])
    if name and len(pieces) > 2 and len(letters := {_INDEX.sub("", compact_name(piece)) for piece in pieces[:-1]}) == 1:
        pieces, name = pieces[-2:], letters.pop()  # x_1 = x_2 = 1
    sides = pieces[1:] if name else pieces
    values = [Expr(piece) if _PRODUCT.fullmatch(piece) else _read(tidy(piece), units) for piece in sides]
    signed = [value for value in values if isinstance(value, Row) and not value.brackets]
    if name and len(values) == 1 and signed:
        return Row("", tuple(Equation(name, (item,)) for item in signed[0].items))
    if any(isinstance(value, Text) for value in values) and not (name and len(values) == 1):
        return None
    return Equation(name, tuple(values))


def compact_name(text: str) -> str:
    """`text` without spaces if it only names something, else empty."""
    if _DERIVATIVE.fullmatch(text):
        return re.sub(r"[{}]", "", text)
    if not _NAME.fullmatch(text) or text in ("\\pi", "e", "\\infty") or _PRODUCT.search(text):
        return ""
    return re.sub(r"[ {}]", "", text) if _only_names(text) else ""


def _only_names(text: str) -> bool:
    """Whether no function, product or denial is in a name: `\\ln x = 5`, `x y = 5` and `wrong = 5` say nothing of 5."""
    if not _NAMING.issuperset(re.findall(r"\\([A-Za-z]+)", text)):
        return False
    if _LETTERS.search(text) or _OF_VARIABLE.search(text) or _NO_NAME.search(text):
        return False
    words = frozenset(re.findall(r"[a-z]+", text.casefold()))
    return words.isdisjoint(DENYING_WORDS) and words.isdisjoint(_FUNCTIONS)


def _brackets(text: str) -> Value | None:
    outer = outer_brackets(text)
    if outer is None:
        return None
    brackets, inner = outer
    if not inner:
        return Nothing("no solution") if brackets == "{}" else None
    pieces = split_top(inner, _COMMA)
    if brackets == "{}" and len(pieces) == 1:
        pieces = split_top(inner, re.compile(r",? (?:and|or) "))
    if len(pieces) == 1 and brackets in ("()", "[]"):
        return _read(tidy(inner)) if not is_expression(inner) or brackets == "()" else None
    items: list[Value] = []
    for piece in pieces:
        value = _read(tidy(piece))
        items.extend(value.items if brackets == "{}" and isinstance(value, Row) and not value.brackets else (value,))
    return Row(brackets, tuple(items))


def _two_signs(text: str) -> Value | None:
    """`a \\pm b` as the two values that it stands for."""
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", text):
        return None
    both = []
    for up, down in (("+", "-"), ("-", "+")):
        one = re.sub(r"\\pm(?![A-Za-z]) ?", lambda _, s=up: s, text)
        both.append(_read(tidy(re.sub(r"\\mp(?![A-Za-z]) ?", lambda _, s=down: s, one).removeprefix("+"))))
    return Row("", tuple(both)) if not any(isinstance(value, Text) for value in both) else None


def _expression(text: str) -> Value:
    value = read_expression(text) if len(split_top(text, _EQUALS)) == 1 else None
    return value or Text(text_key(text))
