"""What a picture shows: free captions for SFT, and for all splits the choice of the one that fits.

The packages' own captions have four words on the mean, so layout that is known (colour, place, number) is told too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from PIL import Image

from data_curation.corpus.choices import lettered
from data_curation.corpus.cutouts.backgrounds import NAMED, canvas_size, named_background
from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.scenes import Scene, Studio
from data_curation.corpus.labels import Box, Size, middle
from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

PLACES = {
    "en": (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right")),
    "zh": (("左上方", "上方", "右上方"), ("左侧", "中央", "右侧"), ("左下方", "下方", "右下方")),
}
ASK = {
    "en": ("Describe the picture.", "What does the picture show?", "Write a caption."),
    "zh": ("描述这张图片。", "图中是什么？", "为图片写一句说明。"),
}
CHOOSE = {"en": "Which description fits the picture?", "zh": "哪个描述符合图片？"}
PLACED = {"en": "{name} on a {colour} background, {place}", "zh": "{colour}背景上的{name}，位于{place}"}
SEVERAL = {"en": "A picture of {things}.", "zh": "图中有{things}。"}


def captions(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One thing in its place, several things with their numbers, or the package's own sentence."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        kind = rng.choices(("placed", "several", "native"), (4, 3, 3))[0]
        if kind == "several":
            yield _several(studio, language, split)
        elif kind == "placed":
            yield _placed(studio, language, split)
        elif (thing := studio.kinds(1, language)[0]).caption.get(language):
            yield _native(studio, thing, language, split)


def _placed(studio: Studio, language: Language, split: Split) -> Sample:
    rng = studio.rng
    thing, other = studio.kinds(2, language)
    size = canvas_size(rng)
    canvas, colour = named_background(rng, size)
    column, row = rng.randrange(3), rng.randrange(3)
    cell = (size[0] * column / 3, size[1] * row / 3, size[0] * (column + 1) / 3, size[1] * (row + 1) / 3)
    studio.place(canvas, thing, cell)
    index = 0 if language == "en" else 1
    place = PLACES[language][row][column]
    elsewhere = rng.choice([p for line in PLACES[language] for p in line if p != place])
    recoloured = rng.choice([name for name in NAMED if name != colour])
    told = [
        PLACED[language].format(name=name, place=where, colour=shade[index])
        for name, where, shade in _quad(
            rng, (thing.names[language], place, colour), (other.names[language], elsewhere, recoloured)
        )
    ]
    return _sample(rng, Picture(canvas), [thing], language, (told[0], told[1:]), split)


def _quad(rng: Random, true: tuple[Any, ...], false: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The true attributes, then three lists with one or both of two drawn attributes changed.

    Each value of the two is in two of the four, so that the options alone do not tell the right one.
    """
    first, second = rng.sample(range(len(true)), 2)
    return [
        tuple(false[i] if i in changed else value for i, value in enumerate(true))
        for changed in ((), (first,), (second,), (first, second))
    ]


def _several(studio: Studio, language: Language, split: Split) -> Sample:
    rng = studio.rng
    *things, other = studio.kinds(rng.randint(3, 4), language)
    scene = studio.scene([thing for thing in things for _ in range(rng.randint(1, 3))])
    counts = [len(scene.boxes(thing)) for thing in things]
    true = (things[0], counts[0], counts[1])
    false = (other, *(rng.choice([n for n in (1, 2, 3) if n != count]) for count in counts[:2]))
    told = [
        _listed([thing, *things[1:]], [first, second, *counts[2:]], language)
        for thing, first, second in _quad(rng, true, false)
    ]
    places = " ".join(_places(scene, things, language)) if rng.random() < 0.4 else ""
    return _sample(rng, scene.picture, things, language, (told[0], told[1:]), split, places)


def _native(studio: Studio, thing: Cutout, language: Language, split: Split) -> Sample:
    """The stamp in its own size, with the sentence that its package gives it."""
    image = thing.load(studio.materials)
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, (0, 0), image)
    others = [t for t in studio.kinds(4, language) if t.key != thing.key]
    wrong = [other.caption.get(language, other.names[language]) for other in others[:3]]
    return _sample(studio.rng, Picture(canvas), [thing], language, (thing.caption[language], wrong), split)


def _sample(
    rng: Random,
    picture: Picture,
    things: Sequence[Cutout],
    language: Language,
    captions: tuple[str, list[str]],
    split: Split,
    more: str = "",
) -> Sample:
    """A free caption in two of three SFT samples (with what `more` tells), elsewhere the choice of the right one."""
    right, wrong = captions
    answer: Answer | None = None
    if split == "sft" and rng.random() < 0.67:
        question, response = rng.choice(ASK[language]), f"{right} {more}".strip()
    else:
        question, answer = lettered(rng, CHOOSE[language], right, wrong)
        response = boxed(answer.text)
    return Sample(
        category="caption",
        origin=things[0].origin,
        items=tuple(thing.key for thing in things),
        language=language,
        turns=(Turn((picture, question), response),),
        answer=answer,
    )


def _listed(things: Sequence[Cutout], counts: Sequence[int], language: Language) -> str:
    parts = [f"{count} × {thing.names[language]}" for thing, count in zip(things, counts, strict=True)]
    return SEVERAL[language].format(things=("、" if language == "zh" else ", ").join(parts))


def _places(scene: Scene, things: Sequence[Cutout], language: Language) -> Iterator[str]:
    for thing in things:
        boxes = scene.boxes(thing)
        if len(boxes) == 1:
            place = place_of(boxes[0], scene.size, language)
            name = thing.names[language]
            yield f"{name}位于{place}。" if language == "zh" else f"{name[0].upper()}{name[1:]}: {place}."


def place_of(box: Box, size: Size, language: Language) -> str:
    """Which ninth of the picture the middle of `box` lies in."""
    x, y = middle(box)
    return PLACES[language][min(2, int(3 * y / size[1]))][min(2, int(3 * x / size[0]))]
