"""Pages of real manuals, English and Chinese, with the exact place of every line: reading, finding, recognising.

Lines come from the PDF's own text, so box and transcript are true by construction.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from PIL import Image

from data_curation.corpus.choices import lettered
from data_curation.corpus.labels import Box, box_tag, labelled
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.operators.documents._lines import Line
from data_curation.operators.documents._pdf import alone, pdf_lines
from data_curation.schema import Answer, Category, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

FAQ, REFERENCE = "debian-faq", "debian-reference-zh-cn"
CONTENTS: dict[str, int] = {FAQ: 9, REFERENCE: 28}
"""Pages before the first chapter: lists of headings full of dots, left out."""
MIN_LINES = 8
"""A page with fewer is mostly empty."""
MIN_SIDE, MAX_ASPECT = 20, 20
"""Of a line's crop."""
MARGIN = 2.5
"""Points around a line in its crop."""
_LATIN = re.compile(r"[\x20-\x7e]{8,70}")
_CHINESE = re.compile(r"[\u4e00-\u9fffA-Za-z0-9 ，。、：（）()/._-]{4,36}")

ASK = {
    "en": {
        "line": "Read the line of text.",
        "read": "What does the line in the box {box} say?",
        "find": 'Give the box of the line "{text}".',
        "which": "Which of these lines is on the page?",
    },
    "zh": {
        "line": "请读出这行文字。",
        "read": "边框 {box} 里的文字是什么？",
        "find": "请框出这行文字：“{text}”。",
        "which": "下面哪一行出现在页面上？",
    },
}


@dataclass(frozen=True, eq=False)
class Page:
    """A page of a manual with its usable lines."""

    key: str
    origin: str
    language: Language
    index: int
    lines: tuple[Line, ...]


def page_lines(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Single lines cut out of pages (OCR)."""
    pages = _pages_of(materials, split)
    while pages:
        for page in rng.sample(pages, len(pages)):
            line = rng.choice(page.lines)
            x1, y1, x2, y2 = line.box
            image = _render(
                materials, page, rng.uniform(1.3, 2.6), (x1 - MARGIN, y1 - MARGIN, x2 + MARGIN, y2 + MARGIN)
            )
            if min(image.size) >= MIN_SIDE and max(image.size) <= MAX_ASPECT * min(image.size):
                turn = Turn((Picture(image), ASK[page.language]["line"]), boxed(line.text))
                yield _sample("ocr", page, turn, Answer(line.text))


def pages(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Whole pages, or a part of one at a larger scale: a line in a box, the box of a line, the line that is there."""
    found = _pages_of(materials, split)
    while found:
        for page in rng.sample(found, len(found)):
            yield _page_question(materials, page, found, rng)


def _page_question(materials: Materials, page: Page, others: list[Page], rng: Random) -> Sample:
    window, scale = (0.0, 0.0, *_size(materials, page)), rng.uniform(0.85, 1.15)
    if rng.random() < 0.6:
        height = window[3] * rng.uniform(0.22, 0.5)
        top = rng.uniform(0, window[3] - height)
        top = max(0.0, min(top, page.lines[-1].box[1] - height / 2))
        window, scale = (0.0, top, window[2], top + height), rng.uniform(1.0, 1.4)
    inside = [line for line in page.lines if window[1] <= line.box[1] and line.box[3] <= window[3]]
    if not inside:
        return _page_question(materials, page, others, rng)
    image = _render(materials, page, scale, window)
    line = rng.choice(inside)
    place = tuple(scale * (side - window[1] * (axis % 2)) for axis, side in enumerate(line.box))
    tag = box_tag((place[0], place[1], place[2], place[3]), image.size)
    task = rng.choice(("read", "find", "which"))
    question = ASK[page.language][task].format(box=tag, text=line.text)
    if task == "which":
        strangers = [page_ for page_ in others if page_.language == page.language and page_ is not page]
        here = {found.text for found in page.lines}
        wrong = [rng.choice(one.lines).text for one in rng.sample(strangers, min(3, len(strangers)))]
        wrong = [text for text in dict.fromkeys(wrong) if text not in here]
        question, answer = lettered(rng, question, line.text, wrong)
    else:
        answer = Answer(line.text) if task == "read" else Answer(labelled(line.text, [tag]), "bbox")
    return _sample("document", page, Turn((Picture(image), question), boxed(answer.text)), answer)


def _sample(category: Category, page: Page, turn: Turn, answer: Answer) -> Sample:
    return Sample(
        category=category,
        origin=page.origin,
        items=(page.key,),
        language=page.language,
        turns=(turn,),
        answer=answer,
    )


def _pages_of(materials: Materials, split: Split) -> list[Page]:
    return [page for page in _read_pages(materials) if in_split(page.key, split)]


@lru_cache(maxsize=2)
def _read_pages(materials: Materials) -> tuple[Page, ...]:
    found: list[Page] = []
    for origin, language, pattern in ((FAQ, "en", _LATIN), (REFERENCE, "zh", _CHINESE)):
        if origin not in materials:
            continue
        document = _document(materials, origin)
        for index in range(CONTENTS[origin], len(document)):
            lines = tuple(
                line
                for line in alone(pdf_lines(document[index]))
                if pattern.fullmatch(line.text) and _usable(line.text)
            )
            if len(lines) >= MIN_LINES:
                found.append(Page(f"page:{origin}:{index}", origin, language, index, lines))
    return tuple(found)


def _usable(text: str) -> bool:
    """Neither a list of dots, nor the running head, nor anything that a box around the answer could be confused by."""
    return (
        ". ." not in text
        and not text.startswith(("Debian 参考手册", *"),.;:?!，。；："))
        and not set(text) & set('\\{}$%#&^_`~<>|"')
    )


def _render(materials: Materials, page: Page, scale: float, window: Box) -> Image.Image:
    """The part `window` of a page, in points, at `scale` pixels a point."""
    width, height = _size(materials, page)
    crop = (max(0.0, window[0]), max(0.0, height - window[3]), max(0.0, width - window[2]), max(0.0, window[1]))
    bitmap = _document(materials, page.origin)[page.index].render(scale=scale, crop=crop)
    return bitmap.to_pil().convert("RGB")


def _size(materials: Materials, page: Page) -> tuple[float, float]:
    return _document(materials, page.origin)[page.index].get_size()


@lru_cache(maxsize=4)
def _document(materials: Materials, origin: str) -> Any:
    import pypdfium2

    if origin == FAQ:
        return pypdfium2.PdfDocument(gzip.decompress(materials.file(FAQ, "debian-faq.en.pdf.gz").read_bytes()))
    return pypdfium2.PdfDocument(materials.file(REFERENCE, "debian-reference.zh-cn.pdf"))
