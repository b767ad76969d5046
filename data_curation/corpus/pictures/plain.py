"""The first grade of counting, grounding and colours: plain shapes of one kind, in small pictures on a plain ground.

What a model of a few million parameters learns to see in minutes. The same questions on harder pictures are those of
`things` and `questions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from PIL import Image

from data_curation.corpus.cutouts.backgrounds import plain_background
from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.drawn_shapes import COLOURS, FORMS, shapes
from data_curation.corpus.cutouts.scenes import Scene, Studio, cells
from data_curation.corpus.labels import box_tag, labelled
from data_curation.corpus.materials import Materials
from data_curation.corpus.pictures.things import COUNT, COUNT_ALL, FIND
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Category, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

SIDES = (98, 141)
"""Pixels of either side, the greater one excluded: 3 to 5 tokens."""
MOST = 5
CELLS = 6
ALIKE = (0.75, 0.95)
"""Share of a cell that a shape to be counted takes: all about as large."""
ALONE = (0.3, 0.6)
"""Share of the picture that a shape takes whose box is asked for: the same box everywhere is rarely right."""
ASK_COLOUR = {
    "en": ("What colour is the shape?", "Name the colour of the shape."),
    "zh": ("这个图形是什么颜色？", "图中的图形是什么颜色的？"),
}
"""The form is not named: with so few pairs of form and colour, its name would tell the colour in training, and none of
those pairs is held out."""


def counts(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One to five of one kind."""
    studio, pool = Studio(materials, split, rng), _shapes(split)
    while True:
        language, thing, canvas = _start(rng, pool)
        places = rng.sample(cells(CELLS, canvas.size), rng.randint(1, MOST))
        placed = tuple(studio.place(canvas, thing, cell, ALIKE) for cell in places)
        question = rng.choice([*COUNT[language], *COUNT_ALL[language]]).format(name=thing.names[language])
        answer = Answer(str(len(placed)), "integer")
        yield _sample("counting", Scene(Picture(canvas), placed), language, question, answer.text, answer)


def boxes(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The box of the only shape."""
    studio, pool = Studio(materials, split, rng), _shapes(split)
    while True:
        language, thing, canvas = _start(rng, pool)
        placed = studio.place(canvas, thing, (0, 0, *canvas.size), ALONE)
        name = thing.names[language]
        said = labelled(name, [box_tag(placed.box, canvas.size)])
        question = rng.choice(FIND[language]).format(name=name)
        scene = Scene(Picture(canvas), (placed,))
        yield _sample("grounding", scene, language, question, said, Answer(said, "bbox"))


def colours(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The colour of the only shape."""
    studio = Studio(materials, split, rng)
    looks = [(colour, form) for colour in COLOURS for form in FORMS]
    pool = {look: shape for look, shape in zip(looks, shapes(), strict=True) if in_split(shape.key, split)}
    while True:
        (colour, _), thing = rng.choice(list(pool.items()))
        language, _, canvas = _start(rng, [thing])
        placed = studio.place(canvas, thing, (0, 0, *canvas.size), ALONE)
        said = colour[0 if language == "en" else 1]
        scene = Scene(Picture(canvas), (placed,))
        yield _sample("vqa", scene, language, rng.choice(ASK_COLOUR[language]), said, Answer(said))


def _shapes(split: Split) -> list[Cutout]:
    return [shape for shape in shapes() if in_split(shape.key, split)]


def _start(rng: Random, pool: list[Cutout]) -> tuple[Language, Cutout, Image.Image]:
    language: Language = rng.choices(("en", "zh"), (6, 4))[0]
    return language, rng.choice(pool), plain_background(rng, (rng.randrange(*SIDES), rng.randrange(*SIDES)))


def _sample(category: Category, scene: Scene, language: Language, question: str, said: str, answer: Answer) -> Sample:
    turn = Turn((scene.picture, question), boxed(said))
    return Sample(
        category=category, origin=scene.origin, items=scene.items, language=language, turns=(turn,), answer=answer
    )
