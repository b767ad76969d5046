"""How many, where, which: counting, grounding, pointing and counting by pointing over scenes of known layout."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from data_curation.corpus.cutouts.scenes import Scene, Studio
from data_curation.corpus.labels import box_tag, labelled, middle, point_tag, region
from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Category, Language, Sample, Turn, boxed
from data_curation.sources.items import Split

MAX_KINDS = 4
MAX_EACH = 5

COUNT = {
    "en": ('How many objects named "{name}" are there?', "Count: {name}.", "How often does this appear: {name}?"),
    "zh": ("图中有几个“{name}”？", "数一数：{name}。", "图里一共有多少个{name}？"),
}
COUNT_ALL = {
    "en": ("How many objects are there altogether?", "Count all objects."),
    "zh": ("图中一共有多少个物体？", "数一数所有的物体。"),
}
FIND = {
    "en": ("Find: {name}. Give its box.", "Where is the {name}? Give its box.", "Locate with a box: {name}."),
    "zh": ("请框出：{name}。", "{name}在哪里？请给出边框。", "用边框定位{name}。"),
}
FIND_ALL = {
    "en": ("Give a box for each: {name}.", "Box every object of this kind: {name}."),
    "zh": ("请框出每一个{name}。", "用边框标出所有的{name}。"),
}
REFER = {"en": "What is in the box {box}?", "zh": "边框 {box} 里是什么？"}
POINT = {
    "en": ("Point at: {name}.", "Where is the {name}? Answer with a point.", "Give a point on the {name}."),
    "zh": ("请指出{name}。", "{name}在哪里？请用一个点回答。", "给出{name}上的一个点。"),
}
POINT_COUNT = {
    "en": ("Point to each: {name}. Then say how many there are.", "Count by pointing: {name}."),
    "zh": ("请指出每一个{name}，再说出一共有几个。", "逐个指出并计数：{name}。"),
}
NOWHERE = "null"
"""The answer for a thing that is not in the picture."""


def counting(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Of one kind among others, of all, and sometimes of none."""
    studio = Studio(materials, split, rng)
    while True:
        language = _language(rng)
        kinds = studio.kinds(rng.randint(1, MAX_KINDS) + 1, language)
        *shown, absent = kinds
        scene = studio.scene([kind for kind in shown for _ in range(rng.randint(1, MAX_EACH))])
        asked = rng.choices([*shown, absent, None], [*[6 / len(shown)] * len(shown), 0.5, 1.5])[0]
        if asked is None:
            question, count = rng.choice(COUNT_ALL[language]), len(scene.placed)
        else:
            question = rng.choice(COUNT[language]).format(name=asked.names[language])
            count = len(scene.boxes(asked))
        items = (*scene.items, absent.key) if asked is absent else scene.items
        yield _sample("counting", scene, language, question, boxed(str(count)), Answer(str(count), "integer"), items)


def grounding(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The box of one thing, of all of a kind, of what is not there; and the thing in a box."""
    studio = Studio(materials, split, rng)
    while True:
        language = _language(rng)
        kinds = studio.kinds(rng.randint(1, MAX_KINDS) + 1, language)
        *shown, absent = kinds
        task = rng.choices(("one", "all", "refer", "absent"), (6, 2, 1.5, 0.5))[0]
        asked = absent if task == "absent" else rng.choice(shown)
        repeats = {kind: rng.randint(2, 3) if task == "all" else 1 for kind in shown}
        scene = studio.scene([kind for kind in shown for _ in range(repeats[kind])])
        name = asked.names[language]
        tags = [box_tag(box, scene.size) for box in scene.boxes(asked)]
        items = (*scene.items, absent.key) if task == "absent" else scene.items
        if task == "refer":
            question, answer, said = REFER[language].format(box=tags[0]), Answer(name), name
        else:
            question = rng.choice((FIND_ALL if task == "all" else FIND)[language]).format(name=name)
            said = labelled(name, tags) if tags else NOWHERE
            answer = Answer(said, "bboxes" if task == "all" else "bbox")
        yield _sample("grounding", scene, language, question, boxed(said), answer, items)


def pointing(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """A point on one thing among others."""
    studio = Studio(materials, split, rng)
    while True:
        language = _language(rng)
        kinds = studio.kinds(rng.randint(2, MAX_KINDS + 2), language)
        scene = studio.scene(kinds)
        asked = rng.choice(kinds)
        [box] = scene.boxes(asked)
        question = rng.choice(POINT[language]).format(name=asked.names[language])
        said = boxed(labelled(asked.names[language], [point_tag(middle(box), scene.size)]))
        answer = Answer(region([box], scene.size), "point")
        yield _sample("pointing", scene, language, question, said, answer, scene.items)


def point_counts(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """A point on each of a kind among others, then how many those are; sometimes there is none."""
    studio = Studio(materials, split, rng)
    while True:
        language = _language(rng)
        *shown, absent = studio.kinds(rng.randint(1, MAX_KINDS) + 1, language)
        scene = studio.scene([kind for kind in shown for _ in range(rng.randint(1, MAX_EACH))])
        asked = absent if rng.random() < 0.05 else rng.choice(shown)
        found, name = scene.boxes(asked), asked.names[language]
        points = labelled(name, [point_tag(middle(box), scene.size) for box in found])
        said = boxed(f"{points} {len(found)}" if found else "0")
        answer = Answer(region(found, scene.size) if found else NOWHERE, "point_count")
        items = scene.items if found else (*scene.items, absent.key)
        question = rng.choice(POINT_COUNT[language]).format(name=name)
        yield _sample("pointing", scene, language, question, said, answer, items)


def _language(rng: Random) -> Language:
    return "zh" if rng.random() < 0.4 else "en"


def _sample(
    category: Category,
    scene: Scene,
    language: Language,
    question: str,
    response: str,
    answer: Answer,
    items: tuple[str, ...],
) -> Sample:
    turn = Turn((scene.picture, question), response)
    return Sample(category=category, origin=scene.origin, items=items, language=language, turns=(turn,), answer=answer)
