"""Which of some broad categories a text is about, by words of each: the coarse label taxonomy of captions."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from pydantic import PositiveInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Part, Record, Verdict


@row_operator(cost="cpu")
def taxonomy(
    record: Record, *, categories: dict[str, list[str]], least_hits: PositiveInt = 2, part: Part = "all"
) -> Verdict:
    """Notes `label`: the category with most hits, of equals the first one named, or `other` with fewer than
    `least_hits`. Words count whole in scripts with spaces, and with their endings after a `*`."""
    text = record.text(part).casefold()
    hits = Counter({name: len(_pattern(tuple(words)).findall(text)) for name, words in categories.items()})
    label, count = max(hits.items(), key=lambda item: item[1], default=("other", 0))
    return Annotate({"label": label if count >= least_hits else "other", "hits": count})


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_word, words)) or r"(?!)")


def _word(word: str) -> str:
    folded = word.casefold()
    if not folded.isascii():
        return re.escape(folded)
    return rf"\b{re.escape(folded[:-1])}\w*" if folded.endswith("*") else rf"\b{re.escape(folded)}\b"
