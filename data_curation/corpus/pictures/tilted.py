"""Which, of what stands askew: tilted things, one among others, asked for by the quadrilateral around it.

The gold is the least quadrilateral around the thing's outline (openPangu-VL, appendix A). A thing for which an upright
box does as well, such as a ball, is never asked for so: the report prefers boxes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import numpy as np
from PIL import Image

from data_curation.corpus.cutouts.cutout import OPAQUE, Cutout, trimmed
from data_curation.corpus.cutouts.scenes import Placed, Studio
from data_curation.corpus.labels import Size, labelled, quad_tag
from data_curation.corpus.materials import Materials
from data_curation.operators.annotations.objects_to_labels import least_quad, mask_points
from data_curation.operators.grounding._objects import BOX_SLACK
from data_curation.schema import Answer, Language, Sample, Turn, boxed
from data_curation.sources.items import Split
from pangu_rl.data.benchmarks.masks import mask_runs

MAX_KINDS = 3
MAX_ANGLE = 75
"""Degrees to either side: what stands on its head is not asked for."""
ASK: dict[Language, tuple[str, ...]] = {
    "en": ("Give the quadrilateral around the {name}.", "Locate with a quadrilateral: {name}."),
    "zh": ("请用四边形框出{name}。", "{name}在哪里？请给出四边形。"),
}


def quads(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The quadrilateral of one thing; all of the picture are tilted."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        kinds = studio.kinds(rng.randint(1, MAX_KINDS), language)
        scene = studio.scene([_tilted(kind, rng.uniform(-MAX_ANGLE, MAX_ANGLE), materials) for kind in kinds])
        placed = rng.choice(scene.placed)
        corners = _corners(placed, materials, scene.size)
        if corners is None:
            continue
        name = placed.cutout.names[language]
        said = labelled(name, [quad_tag(corners, scene.size)])
        yield Sample(
            category="grounding",
            origin=scene.origin,
            items=scene.items,
            language=language,
            turns=(Turn((scene.picture, rng.choice(ASK[language]).format(name=name)), boxed(said)),),
            answer=Answer(said, "quads"),
        )


def _tilted(thing: Cutout, angle: float, materials: Materials) -> Cutout:
    image = trimmed(thing.load(materials).rotate(angle, Image.Resampling.BICUBIC, expand=True))
    return replace(thing, load=lambda _: image)


def _corners(placed: Placed, materials: Materials, size: Size) -> list[tuple[float, float]] | None:
    """In pixels of the picture, clockwise from the upper left one; None where a box does as well, and where the
    quadrilateral leans over the picture's edge."""
    image = placed.cutout.load(materials)
    opaque = np.asarray(image.getchannel("A")) >= OPAQUE
    left, top, right, bottom = placed.box
    scale = np.array([(right - left) / image.width, (bottom - top) / image.height])
    kind, corners = least_quad(np.array([left, top]) + scale * mask_points(mask_runs(opaque)), BOX_SLACK)
    if kind == "box" or (corners < 0).any() or (corners > np.array(size)).any():
        return None
    return [(x, y) for x, y in corners.tolist()]
