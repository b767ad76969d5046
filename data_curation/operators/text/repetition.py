"""Texts that loop, of which a few thousand are enough to spoil a model (InternVL 2.5; openPangu-VL, section 3.2).

Three measures: lines that were there before, word n-grams that were there before (both Gopher's), and the longest
substring that stands twice, overlaps included, so that a loop of any period is found. That one is read off a suffix
array with its longest common prefixes (pydivsufsort), whose work grows with the text and not with its square; it is
built only where a part that such a substring would hold does stand twice, which few texts have.
"""

from __future__ import annotations

import re

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from pydivsufsort import divsufsort, kasai

from data_curation.operators._unspaced import Unspaced
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Part, Record, Verdict
from pangu_rl.config.curate import Share

_WORD = re.compile(rf"[{Unspaced.CJK}]|[^\W{Unspaced.CJK}]+")
_CJK = re.compile(f"[{Unspaced.CJK}]")
_PARTING = bytes(code if code > 127 or chr(code).isalnum() or chr(code) == "_" else 32 for code in range(256))
"""Bytes of UTF-8 -> themselves, and a space for ASCII that is no letter, digit or underscore."""


@row_operator(cost="cpu")
def repetition(
    record: Record,
    *,
    lines: Share = 0.3,
    ngram: PositiveInt = 5,
    ngrams: Share = 0.3,
    substring: Share = 0.3,
    least_chars: NonNegativeInt = 100,
    part: Part = "answered",
) -> Verdict:
    """Each is the greatest share that is allowed: of lines, of n-grams of `ngram` words, and of the length that the
    longest repeated substring has. Texts of fewer than `least_chars` characters are kept: short answers repeat."""
    text = record.text(part)
    if len(text) < least_chars:
        return None
    values: dict[str, float] = {}
    for name, measure, most in (
        ("repeated lines", repeated_lines, lines),
        ("repeated n-grams", lambda some: repeated_ngrams(some, ngram), ngrams),
        ("repeated substring", lambda some: repeated_substring(some, substring), substring),
    ):
        if (share := measure(text)) is None:
            continue
        values[name] = share
        if share > most:
            return Drop(name, f"{share:.2f}, the most is {most:g}", values)
    return Keep(values=values)


def repeated_lines(text: str) -> float:
    """Share of lines that an earlier one equals."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repeated_ngrams(text: str, size: int) -> float:
    """Share of n-grams of words that stood before; a character of kana or Han is a word."""
    words = words_of(text)
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def words_of(text: str) -> list[str] | list[bytes]:
    """What `_WORD` finds, as UTF-8 and in a third of the time where neither kana nor Han is in the text."""
    folded = text.casefold()
    others = "" if folded.isascii() else "".join(sorted(character for character in set(folded) if character > "\x7f"))
    if _CJK.search(others):
        return _WORD.findall(folded)
    for character in others:
        if not character.isalnum():
            folded = folded.replace(character, " ")
    return folded.encode().translate(_PARTING).split()


def repeated_substring(text: str, most: float | None = None) -> float | None:
    """Length of the longest substring that stands twice, over that of the text: (n - p) / n where it has period p. None
    where it surely is not above `most`: then it is not measured."""
    plain = _single_spaced(text).encode()
    if len(plain) < 2:
        return 0.0
    if most is not None and not _may_repeat(plain, max(1, int(most * len(plain)))):
        return None
    suffixes = divsufsort(plain)
    return int(np.max(kasai(plain, suffixes))) / len(plain)


def _single_spaced(text: str) -> str:
    """One space for many, also at both ends: a regular expression takes ten times as long."""
    ends = (" " if text[:1].isspace() else "", " " if text[-1:].isspace() else "")
    return " ".join(text.split()).join(ends) if text.strip() else ends[0]


def _may_repeat(plain: bytes, length: int) -> bool:
    """Whether a substring of `length` may stand twice: if one does, its first place holds a whole one of the parts that
    begin at multiples of half of it, and this part stands a second time as well."""
    half = (length + 1) // 2
    return any(
        plain.find(part := plain[at : at + half]) != at or plain.find(part, at + 1) >= 0
        for at in range(0, len(plain) - half + 1, half)
    )
