"""Calendar dates: ISO, words and Chinese. `01/02/2024` may be either, so it equals only its own spelling."""

from __future__ import annotations

import datetime
import re

from pangu_rl.records import Part
from rewards.mathematics.normalise import plain
from rewards.mathematics.values import Day
from rewards.rules.gold import Gold
from rewards.rules.text import gold_text
from rewards.rules.verdict import bad_gold, unparsable, verdict

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
            "september sep sept", "october oct", "november nov", "december dec",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_WEEKDAY = re.compile(
    r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? |on |the )+"
    r"|,? ?\(?(?:星期|周)[一二三四五六日天]\)?$",
    re.IGNORECASE,
)
_MONTH = r"(?P<name>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_FORMS = [
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        _YEAR + r"(?P<sep>[-/.])(?P<month>\d{1,2})(?P=sep)" + _DAY + r"(?:[T ]00:00(?::00)?)?",
        _YEAR + r"-(?P<month>0[1-9]|1[0-2])",
        _YEAR + " ?年 ?(?P<month>\\d{1,2}) ?月(?: ?(?P<day>\\d{1,2}) ?[日号])?",
        "(?P<month>\\d{1,2}) ?月 ?(?P<day>\\d{1,2}) ?[日号]",
        _MONTH + " " + _DAY + r"(?:,? " + _YEAR + ")?",
        _DAY + "(?: of)? " + _MONTH + r"(?:,? " + _YEAR + ")?",
        _MONTH + ",? " + _YEAR,
        _YEAR + ",? " + _MONTH + "(?: " + _DAY + ")?",
    )
]
_EITHER = re.compile(r"(?P<a>\d{1,2})(?P<sep>[/.-])(?P<b>\d{1,2})(?P=sep)" + _YEAR, re.ASCII)


def grade_date(answer: str, gold: Gold) -> Part:
    """The `date` type; a year alone is a date here.

    Raises:
        BadGold: the gold is no date.
    """
    wanted = read_date(gold_text(gold)) or _year(plain(gold.text))
    if wanted is None:
        raise bad_gold(gold, "is no date")
    found = read_date(plain(answer)) or _year(plain(answer))
    if found is None:
        return unparsable(answer, "is no date")
    return verdict(found == wanted, answer, gold)


def read_date(text: str) -> Day | None:
    """The date that `text` (in its plain form) is; None for anything else, or a day that no calendar has."""
    text = _WEEKDAY.sub("", text).strip()
    if either := _EITHER.fullmatch(text):
        return _either(int(either["a"]), int(either["b"]), int(either["year"]))
    for form in _FORMS:
        if match := form.fullmatch(text):
            parts = match.groupdict()
            month = parts.get("month") or _MONTHS.get((parts.get("name") or "").casefold(), 0)
            return _valid(int(parts.get("year") or 0), int(month), int(parts.get("day") or 0))
    return None


def _either(first: int, second: int, year: int) -> Day | None:
    if first > 12:
        return _valid(year, second, first)
    if second > 12 or first == second:
        return _valid(year, first, second)
    return Day(year, first, second, order="either") if first and second else None


def _valid(year: int, month: int, day: int) -> Day | None:
    try:
        datetime.date(year or 2000, month or 1, day or 1)
    except ValueError:
        return None
    return Day(year, month, day)


def _year(text: str) -> Day | None:
    return Day(int(text[:4]), 0, 0) if re.fullmatch(r"\d{4} ?年?", text, re.ASCII) else None
