"""Cutouts laid out on a background, with the box of each: what counting, grounding and pointing ask about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image

from data_curation.corpus.cutouts.backgrounds import background, canvas_size
from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.pool import cutouts, distinct
from data_curation.corpus.labels import Box, Size
from data_curation.corpus.materials import Materials
from data_curation.schema import Language, Picture
from data_curation.sources.items import Split

FILL = (0.62, 0.96)
"""Share of its cell that a thing takes; cells are disjoint, so nothing hides anything."""
MIN_PIXELS = 20
"""A thing smaller than this is not shown: the picture is made larger."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing in a picture."""

    cutout: Cutout
    box: Box


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture, and everything in it."""

    picture: Picture
    placed: tuple[Placed, ...]

    @property
    def size(self) -> Size:
        return self.picture.image.size

    @property
    def items(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(placed.cutout.key for placed in self.placed))

    @property
    def origin(self) -> str:
        return self.placed[0].cutout.origin

    def boxes(self, cutout: Cutout) -> list[Box]:
        """Where `cutout` is, from the top to the bottom."""
        return sorted((p.box for p in self.placed if p.cutout is cutout), key=lambda box: (box[1], box[0]))


class Studio:
    """Makes scenes out of the cutouts of one split."""

    def __init__(self, materials: Materials, split: Split, rng: Random) -> None:
        self.materials, self.rng = materials, rng
        self._pools = _by_origin(cutouts(materials, split))

    def kinds(self, count: int, language: Language) -> list[Cutout]:
        """`count` kinds that cannot be taken for one another, of one look: stamps, emoji or shapes."""
        while True:
            pool = self.rng.choice(self._pools)
            found = distinct(self.rng, pool, count, language)
            if len(found) == count:
                return found

    def scene(self, things: Sequence[Cutout], low: int = 180, high: int = 560) -> Scene:
        """One instance of each of `things`, which may repeat, in drawn places."""
        size = canvas_size(self.rng, low, high)
        room = cells(len(things), size)
        if min(room[0][2] - room[0][0], room[0][3] - room[0][1]) * FILL[0] < 1.5 * MIN_PIXELS:
            return self.scene(things, int(low * 1.2), int(high * 1.2))
        canvas = background(self.rng, size)
        places = self.rng.sample(room, len(things))
        placed = tuple(self.place(canvas, thing, cell) for thing, cell in zip(things, places, strict=True))
        return Scene(Picture(canvas), placed)

    def place(self, canvas: Image.Image, thing: Cutout, cell: Box, fill: tuple[float, float] = FILL) -> Placed:
        """Paste `thing` somewhere in `cell`, scaled to a share of it in the range `fill`; its box is exact."""
        image = thing.load(self.materials)
        width, height = cell[2] - cell[0], cell[3] - cell[1]
        scale = min(width / image.width, height / image.height) * self.rng.uniform(*fill)
        image = image.resize((max(4, int(image.width * scale)), max(4, int(image.height * scale))))
        x = int(cell[0] + self.rng.random() * (width - image.width))
        y = int(cell[1] + self.rng.random() * (height - image.height))
        canvas.paste(image, (x, y), image)
        return Placed(thing, (x, y, x + image.width, y + image.height))


def _by_origin(pool: Sequence[Cutout]) -> list[list[Cutout]]:
    groups: dict[str, list[Cutout]] = {}
    for cutout in pool:
        groups.setdefault(cutout.origin, []).append(cutout)
    return list(groups.values())


def cells(count: int, size: Size) -> list[Box]:
    """At least `count` equal cells, about as wide as high."""
    width, height = size
    columns = max(1, round((count * width / height) ** 0.5))
    rows = -(-count // columns)
    return [
        (width * c / columns, height * r / rows, width * (c + 1) / columns, height * (r + 1) / rows)
        for r in range(rows)
        for c in range(columns)
    ]
