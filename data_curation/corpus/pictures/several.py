"""Several pictures in one question: which one shows a thing, how many in all, the odd one out."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from string import ascii_uppercase

from PIL import Image

from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.scenes import Scene, Studio
from data_curation.corpus.materials import Materials
from data_curation.corpus.pictures.questions import GARMENTS, GARMENTS_PACKAGE, garment_arrays
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

ASK = {
    "en": {
        "where": "Which picture shows this: {name}?",
        "sum": "How many objects named {name} are there in all pictures together?",
        "more": "Which picture has the most objects?",
        "odd": "Which picture shows another kind of garment than the others?",
        "gone": "What is in the first picture, but not in the second?",
    },
    "zh": {
        "where": "哪张图里有“{name}”？",
        "sum": "所有图中一共有多少个“{name}”？",
        "more": "哪张图里的物体最多？",
        "odd": "哪张图中的服饰与其他的种类不同？",
        "gone": "哪样东西在第一张图里有，在第二张图里没有？",
    },
}
NAMED = {"en": "Picture {letter}: ", "zh": "图 {letter}："}


def several(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Over two to four scenes of one split."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        task = rng.choice(("where", "sum", "more", "gone"))
        if task == "gone":
            kinds = studio.kinds(rng.randint(2, 4), language)
            scenes = [studio.scene(kinds, 150, 320), studio.scene(kinds[1:], 150, 320)]
            asked, answer = kinds[0], Answer(kinds[0].names[language])
        else:
            scenes, asked, answer = _letter_question(studio, task, language)
        parts = _shown([scene.picture for scene in scenes], language)
        question = ASK[language][task].format(name=asked.names[language])
        yield Sample(
            category="several",
            origin=scenes[0].origin,
            items=tuple(dict.fromkeys(key for scene in scenes for key in scene.items)),
            language=language,
            turns=(Turn((*parts, question), boxed(answer.text)),),
            answer=answer,
        )


def _letter_question(studio: Studio, task: str, language: Language) -> tuple[list[Scene], Cutout, Answer]:
    rng = studio.rng
    count = rng.randint(2, 4)
    kinds = studio.kinds(count, language)
    numbers = rng.sample(range(1, 7), count)
    if task == "where":
        scenes = [studio.scene([kind] * rng.randint(1, 3), 120, 320) for kind in kinds]
        right = rng.randrange(count)
        return scenes, kinds[right], Answer(ascii_uppercase[right], "choice")
    if task == "more":
        scenes = [studio.scene([rng.choice(kinds) for _ in range(number)], 120, 320) for number in numbers]
        return scenes, kinds[0], Answer(ascii_uppercase[numbers.index(max(numbers))], "choice")
    scenes = [studio.scene([kinds[0]] * rng.randint(1, 3) + [kinds[1]] * rng.randint(0, 2), 120, 320) for _ in kinds]
    total = sum(len(scene.boxes(kinds[0])) for scene in scenes)
    return scenes, kinds[0], Answer(str(total), "integer")


def odd_garments(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Four garments, three of one kind."""
    if GARMENTS_PACKAGE not in materials:
        return
    pictures, labels = garment_arrays(materials)
    of_kind = [
        [index for index, label in enumerate(labels) if label == kind and in_split(f"garment:{index}", split)]
        for kind in range(len(GARMENTS))
    ]
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        usual, odd = rng.sample(of_kind, 2)
        chosen = [*rng.sample(usual, 3), rng.choice(odd)]
        stranger = chosen[-1]
        rng.shuffle(chosen)
        side = rng.randrange(28, 140)
        shown = [Picture(Image.fromarray(pictures[index]).convert("RGB").resize((side, side))) for index in chosen]
        letter = ascii_uppercase[chosen.index(stranger)]
        yield Sample(
            category="several",
            origin=GARMENTS_PACKAGE,
            items=tuple(f"garment:{index}" for index in chosen),
            language=language,
            turns=(Turn((*_shown(shown, language), ASK[language]["odd"]), boxed(letter)),),
            answer=Answer(letter, "choice"),
        )


def _shown(pictures: list[Picture], language: Language) -> list[str | Picture]:
    """Each picture behind its letter, each on a line."""
    parts: list[str | Picture] = []
    for letter, picture in zip(ascii_uppercase, pictures, strict=False):
        parts += [NAMED[language].format(letter=letter), picture, "\n"]
    return parts
