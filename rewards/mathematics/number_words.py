"""Numbers in words: `twenty-one`, `a dozen`, `一百零五`, `3万`, `三分之一`, `百分之五十`."""

from __future__ import annotations

import re
from fractions import Fraction

_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENTHS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES = {word: value for value, word in enumerate(_UP_TO_NINETEEN.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TENTHS.split(), start=2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FIXED = {"half": Fraction(1, 2), "one half": Fraction(1, 2), "a half": Fraction(1, 2), "a dozen": Fraction(12),
          "one dozen": Fraction(12), "dozen": Fraction(12), "half a dozen": Fraction(6), "a hundred": Fraction(100),
          "a thousand": Fraction(1000), "a million": Fraction(10**6), "一半": Fraction(1, 2)}  # fmt: skip
_MULTIPLE = re.compile(
    r"(-?\d+(?:\.\d+)?) ?(dozen|thousand|million|billion|trillion|万亿|[十百千]?[亿万]|[百千])", re.ASCII
)
_DENOMINATORS = "half third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_PARTS = {name: value for value, name in enumerate(_DENOMINATORS.split(), start=2)}
_PARTS |= {"quarter": 4, "twentieth": 20, "hundredth": 100, "thousandth": 1000}
_PLURALS = {"halves" if name == "half" else f"{name}s": value for name, value in _PARTS.items()}

_DIGITS = dict(zip("零〇一二三四五六七八九两", (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2)))
_UNITS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_DOZEN = {"dozen": 12}
_CHINESE_MULTIPLES = {"百": 100, "千": 1000, "万亿": 10**12} | {
    few + many: (_UNITS[few] if few else 1) * _MYRIADS[many] for few in ("", *_UNITS) for many in _MYRIADS
}
MAX_WORDS = 24

WORDS = frozenset((*_ONES, *_TENS, *_SCALES, "hundred"))


def spelled_number(text: str) -> Fraction | None:
    """The value of a number that is written in words, English or Chinese, or None."""
    text = text.casefold().strip()
    if text in _FIXED:
        return _FIXED[text]
    if multiple := _MULTIPLE.fullmatch(text):
        return Fraction(multiple[1]) * (_DOZEN | _SCALES | _CHINESE_MULTIPLES)[multiple[2]]
    if text.isascii():
        return _english(text)
    return _chinese(text)


def _english(text: str) -> Fraction | None:
    sign = 1
    for word in ("minus ", "negative "):
        if text.startswith(word):
            sign, text = -1, text.removeprefix(word)
    words = text.replace("-", " ").split()
    if not words or len(words) > MAX_WORDS or words[0] == "and":
        return None
    part = _part(words)
    if part is not None:
        return sign * part
    if words[-1] == "dozen" and len(words) > 1:
        count = _english(" ".join(words[:-1]))
        return None if count is None else sign * 12 * count
    whole, joint, rest = text.rpartition(" and ")
    if joint and (part := _part(rest.split())) is not None:
        before = _english(whole)
        return None if before is None else sign * (before + part)
    total, group, last = 0, 0, ""
    for word in words:
        if word == "and" and last in ("hundred", *_SCALES):
            last = word
            continue
        if word in _ONES and (last in ("", "and", "hundred", *_SCALES) or (last in _TENS and 0 < _ONES[word] < 10)):
            group += _ONES[word]
        elif word in _TENS and last in ("", "and", "hundred", *_SCALES):
            group += _TENS[word]
        elif word == "hundred" and last in _ONES and 0 < group < 100:
            group *= 100
        elif word in _SCALES and group and last not in ("and", *_SCALES):
            total, group = total + group * _SCALES[word], 0
        else:
            return None
        last = word
    return None if last == "and" else Fraction(sign * (total + group))


def _part(words: list[str]) -> Fraction | None:
    """`two thirds`, `a quarter`: the plural goes with more than one."""
    if len(words) != 2:
        return None
    count = 1 if words[0] in ("a", "an") else _ONES.get(words[0], 0)
    below = (_PARTS if count == 1 else _PLURALS).get(words[1])
    return Fraction(count, below) if count and below else None


def _chinese(text: str) -> Fraction | None:
    if text.startswith("负"):
        value = _chinese(text[1:])
        return -value if value is not None else None
    if text.startswith("百分之"):
        value = _chinese(text.removeprefix("百分之"))
        return value / 100 if value is not None else None
    bottom, parts, top = text.partition("分之")
    if parts:
        below, above = _chinese_whole(bottom), _chinese_whole(top)
        return Fraction(above, below) if below and above is not None else None
    whole, point, decimals = text.partition("点")
    value = _chinese_whole(whole)
    if value is None or not point:
        return Fraction(value) if value is not None else None
    if not decimals or len(decimals) > MAX_WORDS or any(d not in _DIGITS for d in decimals):
        return None
    return value + Fraction(int("".join(str(_DIGITS[d]) for d in decimals)), 10 ** len(decimals))


def _chinese_whole(text: str) -> int | None:
    if not text or len(text) > MAX_WORDS:
        return None
    if text.isascii() and text.isdigit():
        return int(text)  # 5分之一
    if len(text) > 1 and all(c in _DIGITS for c in text):
        return int("".join(str(_DIGITS[c]) for c in text))  # 二〇二四
    total, section, digit = 0, 0, None
    for character in text:
        if character in _DIGITS:
            if digit:
                return None
            digit = _DIGITS[character]
        elif character in _UNITS:
            section += (1 if digit is None else digit) * _UNITS[character]
            digit = None
        elif character in _MYRIADS and (section or digit):
            total = (total + section + (digit or 0)) * _MYRIADS[character]
            section, digit = 0, None
        else:
            return None
    return total + section + (digit or 0)
