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
from data_curation.corpus.cutouts.scenes import Studio
from data_curation.corpus.labels import labelled, quad_tag
from data_curation.corpus.materials import Materials
from data_curation.operators.annotations.objects_to_labels import least_quad, mask_points
from data_curation.operators.grounding._objects import BOX_SLACK
from data_curation.schema import Answer, Language, Sample, Turn, boxed
from data_curation.sources.items import Split
from pangu_rl.data.benchmarks.masks import mask_runs

MAX_KINDS = 3
MAX_ANGLE = 75
"""Degrees to either side: what stands on its head is not asked for."""
MAX_SIDE = 320
"""Pixels of a thing before it is tilted: stamps are many times as large as they are shown."""
ASK: dict[Language, tuple[str, ...]] = {
    "en": ("Give the quadrilateral around the {name}.", "Locate with a quadrilateral: {name}."),
    "zh": ("请用四边形框出{name}。", "{name}在哪里？请给出四边形。"),
}


def quads(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The quadrilateral of one thing; all of the picture are tilted."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        kind, *others = studio.kinds(rng.randint(1, MAX_KINDS), language)
        asked = _tilted(kind, materials, rng)
        if _least(outline := _outline(asked.load(materials))) is None:
            continue
        scene = studio.scene([asked, *(_tilted(other, materials, rng) for other in others)])
        [(left, top, right, bottom)] = scene.boxes(asked)
        scale = np.array([right - left, bottom - top]) / outline.max(axis=0)
        corners = _least(np.array([left, top]) + outline * scale)
        if corners is None or (corners < 0).any() or (corners > np.array(scene.size)).any():
            continue  # it leans over the picture's edge
        name = asked.names[language]
        said = labelled(name, [quad_tag(corners.tolist(), scene.size)])
        yield Sample(
            category="grounding",
            origin=scene.origin,
            items=scene.items,
            language=language,
            turns=(Turn((scene.picture, rng.choice(ASK[language]).format(name=name)), boxed(said)),),
            answer=Answer(said, "quads"),
        )


def _tilted(thing: Cutout, materials: Materials, rng: Random) -> Cutout:
    image = thing.load(materials).copy()
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image = trimmed(image.rotate(rng.uniform(-MAX_ANGLE, MAX_ANGLE), Image.Resampling.BICUBIC, expand=True))
    return replace(thing, load=lambda _: image)


def _outline(image: Image.Image) -> np.ndarray:
    """float [N, 2]: x and y, in its pixels, of the corners of what is opaque, which reaches to its sides."""
    return mask_points(mask_runs(np.asarray(image.getchannel("A")) >= OPAQUE), image.size).astype(float)


def _least(points: np.ndarray) -> np.ndarray | None:
    """float [4, 2]: corners clockwise from the upper left one; None where an upright box does as well."""
    kind, corners = least_quad(points, BOX_SLACK)
    return None if kind == "box" else corners
