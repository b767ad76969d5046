"""Text and pictures in turns: few-shot naming, picture stories, and documents with figures between their paragraphs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from data_curation.corpus.cutouts.scenes import Scene, Studio
from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

WORDS = {
    "en": {
        "named": "This is: ",
        "count": (": {count}.\n", "How many objects are there, as in the examples?"),
        "story": ("First we saw ", ", then ", ", and at last ", "."),
        "ordinal": ("first", "second", "third", "fourth"),
        "ask": "What did we see in the {ordinal} picture?",
        "name": "Name what the last picture shows, as in the examples.",
        "album": "Figure {number}",
        "howmany": "How many of them are in figure {number}?",
    },
    "zh": {
        "named": "这是：",
        "count": ("：{count}。\n", "照例子的样子，最后一张图里有多少个物体？"),
        "story": ("我们先看到", "，然后看到", "，最后看到", "。"),
        "ordinal": ("第一", "第二", "第三", "第四"),
        "ask": "我们在{ordinal}张图里看到了什么？",
        "name": "照例子的样子，说出最后一张图里是什么。",
        "album": "图 {number}",
        "howmany": "图 {number} 里有几个？",
    },
}


def interleaved(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Examples and then a picture without its answer; a story with pictures for nouns; figures asked for by number."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        count = rng.randint(3, 4)
        kinds = studio.kinds(count, language)
        scenes = [studio.scene([kind], 110, 260) for kind in kinds]
        names = [kind.names[language] for kind in kinds]
        task = rng.choice(("name", "count", "story", "figures"))
        if task in ("count", "figures"):
            numbers = [rng.randint(1, 6) for _ in kinds]
            scenes = [studio.scene([kind] * number, 110, 320) for kind, number in zip(kinds, numbers, strict=True)]
            counted = _counted(scenes, numbers, language)
            parts, answer = counted if task == "count" else _figures(scenes, names, numbers, language, rng)
        elif task == "name":
            parts, answer = _named(scenes, names, language)
        else:
            parts, answer = _story(scenes, names, language, rng)
        yield Sample(
            category="interleaved",
            origin=scenes[0].origin,
            items=tuple(dict.fromkeys(key for scene in scenes for key in scene.items)),
            language=language,
            turns=(Turn(tuple(parts), boxed(answer.text)),),
            answer=answer,
        )


Parts = list[str | Picture]


def _named(scenes: list[Scene], names: list[str], language: Language) -> tuple[Parts, Answer]:
    words = WORDS[language]
    parts: Parts = []
    for scene, name in zip(scenes[:-1], names[:-1], strict=True):
        parts += [scene.picture, f"{words['named']}{name}\n"]
    return [*parts, scenes[-1].picture, words["name"]], Answer(names[-1])


def _counted(scenes: list[Scene], numbers: list[int], language: Language) -> tuple[Parts, Answer]:
    words = WORDS[language]["count"]
    parts: Parts = []
    for scene, number in zip(scenes[:-1], numbers[:-1], strict=True):
        parts += [scene.picture, words[0].format(count=number)]
    return [*parts, scenes[-1].picture, words[1]], Answer(str(numbers[-1]), "integer")


def _story(scenes: list[Scene], names: list[str], language: Language, rng: Random) -> tuple[Parts, Answer]:
    words = WORDS[language]
    first, then, last, end = words["story"]
    joints = [first, *[then] * (len(scenes) - 2), last]
    parts: Parts = [part for joint, scene in zip(joints, scenes, strict=True) for part in (joint, scene.picture)]
    asked = rng.randrange(len(scenes))
    return [*parts, f"{end}\n{words['ask'].format(ordinal=words['ordinal'][asked])}"], Answer(names[asked])


def _figures(
    scenes: list[Scene], names: list[str], numbers: list[int], language: Language, rng: Random
) -> tuple[Parts, Answer]:
    words = WORDS[language]
    parts: Parts = []
    for number, (scene, name) in enumerate(zip(scenes, names, strict=True), start=1):
        parts += [scene.picture, f"{words['album'].format(number=number)}: {name}\n"]
    asked = rng.randrange(len(scenes))
    return [*parts, words["howmany"].format(number=asked + 1)], Answer(str(numbers[asked]), "integer")
