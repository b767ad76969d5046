"""Texts that are no prose: too many symbols, words too short or too long, lists of fragments.

Rules and thresholds of Gopher (Rae et al. 2021, appendix A.1.1), each with a name in the report. Scripts without spaces
count a character as a word, and their words have no length. A syllable of Hangul is as long as two letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from data_curation.operators._unspaced import Unspaced
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Record, Verdict
from pangu_rl.config.curate import Share

_NO_SPACES = Unspaced.CJK + Unspaced.OTHERS
_WORD = re.compile(rf"[{_NO_SPACES}](?:(?!\w)[{_NO_SPACES}])*|[^\s{_NO_SPACES}]+")
"""A character with the marks on it, or what stands between spaces."""
_UNSPACED = re.compile(f"[{_NO_SPACES}]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_BULLETS = ("-", "*", "•", "‣", "▪", "·", "●")
_ELLIPSES = ("...", "…", "……")


@row_operator(cost="cpu")
def text_quality(
    record: Record,
    *,
    least_words: NonNegativeInt = 50,
    most_words: PositiveInt = 100_000,
    mean_word_length: tuple[NonNegativeFloat, NonNegativeFloat] = (3.0, 10.0),
    most_symbols: Share = 0.1,
    most_bullets: Share = 0.9,
    dialogues: bool = False,
) -> Verdict:
    """`most_symbols` are hashes and ellipses a word, `most_bullets` lines that begin with one. Three lines in ten may
    end in an ellipsis and eight words in ten need a letter, whatever the settings, as Gopher has it. Dialogues and
    prompts pass, since a number is a good answer, unless `dialogues` has what they answer judged too."""
    if ("messages" in record.row or "prompt" in record.row) and not dialogues:
        return None
    text = record.text("answered")
    words = _WORD.findall(text)
    limits = (least_words, most_words, *mean_word_length, most_symbols, most_bullets)
    values: dict[str, float] = {"words": len(words)}
    for name, value, low, high in _measures(text, words, limits):
        values[name] = value
        if not low <= value <= high:
            return Drop(name, f"{value:.3g}, allowed are {low:g} to {high:g}", values)
    return Keep(values=values)


def _measures(text: str, words: list[str], limits: tuple[float, ...]) -> Iterator[tuple[str, float, float, float]]:
    """Name, value, least and greatest allowed value, the cheap ones first."""
    least_words, most_words, shortest, longest, symbols, bullets = limits
    yield "words", len(words), least_words, most_words
    if not words:
        return
    spaced = [word for word in words if not _UNSPACED.match(word)]
    if len(spaced) > len(words) / 2:
        letters = sum(map(len, spaced)) + len(_HANGUL.findall(text))
        yield "mean word length", letters / len(spaced), shortest, longest
    yield "symbols", (text.count("#") + sum(map(text.count, _ELLIPSES[:2]))) / len(words), 0, symbols
    yield "words with a letter", sum(any(map(str.isalpha, word)) for word in words) / len(words), 0.8, 1
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    yield "bullets", sum(line.startswith(_BULLETS) for line in lines) / len(lines), 0, bullets
    yield "lines that break off", sum(line.endswith(_ELLIPSES) for line in lines) / len(lines), 0, 0.3
