"""Conversations of two to four turns on one scene; a later turn may bring a second picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.scenes import Scene, Studio
from data_curation.corpus.labels import box_tag, labelled, middle, point_tag, region
from data_curation.corpus.materials import Materials
from data_curation.corpus.pictures.things import COUNT, COUNT_ALL, FIND, NOWHERE, POINT
from data_curation.schema import Answer, Language, Sample, Turn, boxed
from data_curation.sources.items import Split

ASK = {
    "en": {
        "kinds": "How many different kinds of things are there?",
        "next": "And how many objects does this picture have?",
        "more": "How many more objects does it have than the first one?",
    },
    "zh": {"kinds": "图中有几种不同的东西？", "next": "这张图里又有多少个物体？", "more": "它比第一张图多几个物体？"},
}

Question = tuple[str, str, Answer]
"""What is asked, what is said inside the box, the gold."""


def dialogues(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Questions on one scene, in drawn order; sometimes two scenes are compared at the end."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        *kinds, absent = studio.kinds(rng.randint(3, 4), language)
        scene = studio.scene([kind for kind in kinds for _ in range(rng.randint(1, 3))])
        asked = rng.sample(_questions(scene, kinds, absent, language, rng), rng.randint(2, 3))
        turns = [
            Turn((scene.picture, question) if number == 0 else (question,), boxed(said))
            for number, (question, said, _) in enumerate(asked)
        ]
        answer, items = asked[-1][2], scene.items
        if rng.random() < 0.3:
            more = len(scene.placed) + rng.randint(1, 4)
            second = studio.scene([rng.choice(kinds) for _ in range(more)])
            answer = Answer(str(more - len(scene.placed)), "integer")
            turns += [
                Turn((second.picture, ASK[language]["next"]), boxed(str(more))),
                Turn((ASK[language]["more"],), boxed(answer.text)),
            ]
        yield Sample(
            category="dialogue",
            origin=scene.origin,
            items=(*items, absent.key),
            language=language,
            turns=tuple(turns),
            answer=answer,
        )


def _questions(scene: Scene, kinds: list[Cutout], absent: Cutout, language: Language, rng: Random) -> list[Question]:
    """One of each sort that this scene allows."""
    rare = [kind for kind in kinds if len(scene.boxes(kind)) == 1]
    makers: list[Callable[[], Question]] = [
        lambda: _number(rng.choice(COUNT_ALL[language]), len(scene.placed)),
        lambda: _number(ASK[language]["kinds"], len(kinds)),
        lambda: _count(scene, rng.choice(kinds), language, rng),
        lambda: (rng.choice(FIND[language]).format(name=absent.names[language]), NOWHERE, Answer(NOWHERE, "bbox")),
    ]
    if rare:
        makers += [
            lambda: _box(scene, rng.choice(rare), language, rng),
            lambda: _point(scene, rng.choice(rare), language, rng),
        ]
    return [make() for make in makers]


def _number(question: str, count: int) -> Question:
    return question, str(count), Answer(str(count), "integer")


def _count(scene: Scene, kind: Cutout, language: Language, rng: Random) -> Question:
    return _number(rng.choice(COUNT[language]).format(name=kind.names[language]), len(scene.boxes(kind)))


def _box(scene: Scene, kind: Cutout, language: Language, rng: Random) -> Question:
    said = labelled(kind.names[language], [box_tag(scene.boxes(kind)[0], scene.size)])
    return rng.choice(FIND[language]).format(name=kind.names[language]), said, Answer(said, "bbox")


def _point(scene: Scene, kind: Cutout, language: Language, rng: Random) -> Question:
    [box] = scene.boxes(kind)
    said = labelled(kind.names[language], [point_tag(middle(box), scene.size)])
    return (
        rng.choice(POINT[language]).format(name=kind.names[language]),
        said,
        Answer(region([box], scene.size), "point"),
    )
