"""Text to read off a picture (OCR): sentences drawn in many faces, colours and sizes, one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw

from data_curation.corpus.cutouts.backgrounds import background
from data_curation.corpus.cutouts.pool import cutouts
from data_curation.corpus.fonts import any_font
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.corpus.texts.problems import problems
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

MIN_SIDE, MAX_ASPECT = 24, 16
"""Of a line's picture: smaller or longer ones can hardly be read after resizing."""
ASK = {
    "en": ("What does the text say?", "Read the text.", "Transcribe the line of text."),
    "zh": ("图中的文字是什么？", "请读出图中的文字。", "请抄录这行文字。"),
}
_WORDS = re.compile(r"[A-Za-z0-9 ,.'?-]{6,48}")
_CHINESE = re.compile(r"[\u4e00-\u9fff0-9，。、]{3,18}")


def text_lines(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """A clause of a packaged question, a stamp's caption, or a number, drawn on some background."""
    phrases = [phrase for phrase in _phrases(materials) if in_split(phrase[0], split)]
    while phrases:
        for key, language, text in rng.sample(phrases, len(phrases)):
            if language == "zh" and materials.cjk_font is None:
                continue
            picture = _drawn(materials, language, text, rng)
            if picture is not None:
                turn = Turn((Picture(picture), rng.choice(ASK[language])), boxed(text))
                yield Sample(
                    category="ocr",
                    origin="drawn",
                    items=(key,),
                    language=language,
                    turns=(turn,),
                    answer=Answer(text),
                )


def _drawn(materials: Materials, language: Language, text: str, rng: Random) -> Image.Image | None:
    font = any_font(materials, language, rng.randrange(16, 42), rng)
    left, top, right, bottom = font.getbbox(text)
    margin = rng.randrange(6, 24)
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    if min(size) < MIN_SIDE or size[0] > MAX_ASPECT * size[1]:
        return None
    canvas = background(rng, size)
    if dark := rng.random() < 0.25:
        canvas = canvas.point(lambda value: (255 - value) // 2)
    ink = tuple(rng.randrange(200, 256) if dark else rng.randrange(0, 90) for _ in range(3))
    ImageDraw.Draw(canvas).text((margin - left, margin - top), text, font=font, fill=ink)
    return canvas


@lru_cache(maxsize=2)
def _phrases(materials: Materials) -> tuple[tuple[str, Language, str], ...]:
    """Key of the source item, language, and a text short enough for a line."""
    found: dict[str, tuple[str, Language, str]] = {}
    for problem in problems(materials):
        pieces = re.split(r"(?<=[.?!。，？！]) ?", problem.question)
        pattern = _CHINESE if problem.language == "zh" else _WORDS
        for piece in pieces:
            text = piece.strip()
            if pattern.fullmatch(text):
                found.setdefault(text, (problem.key, problem.language, text))
    for split in ("sft", "train", "heldout"):
        for thing in cutouts(materials, split):
            for language, name in {**thing.names, **thing.caption}.items():
                found.setdefault(name, (thing.key, language, name))
    return tuple(found.values())
