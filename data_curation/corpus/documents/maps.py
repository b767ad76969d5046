"""Real maps whose divisions are told by their colours, so that every outline is exact: boxes, points, marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from data_curation.corpus.choices import lettered
from data_curation.corpus.labels import Box, box_tag, labelled, point_tag, region
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Category, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

PACKAGE = "kgeography-data"
MIN_PIXELS = 120
"""Of a division, at the map's own size."""
MAX_SIDE = 640
BANDS = 12
"""A region's outline is covered by boxes in so many bands: a point in any of them is in the region."""

ASK = {
    "en": {
        "bbox": "This is a map of {map}. Give the box of {name}.",
        "point": "This is a map of {map}. Point at {name}.",
        "marked": "Which part of {map} is marked with a red dot?",
        "dot": "Give the box of the coloured region that the red dot is in.",
        "north": "Which lies farther north on this map of {map}?",
    },
    "zh": {
        "bbox": "这是 {map} 的地图。请框出 {name}。",
        "point": "这是 {map} 的地图。请指出 {name}。",
        "marked": "红点标出的是 {map} 的哪个地区？",
        "dot": "请框出红点所在的色块。",
        "north": "在这张 {map} 地图上，哪一个更靠北？",
    },
}
CATEGORY: dict[str, Category] = {
    "bbox": "grounding",
    "dot": "grounding",
    "point": "pointing",
    "marked": "vqa",
    "north": "vqa",
}


@dataclass(frozen=True, eq=False)
class AtlasMap:
    """One map and the colours of its divisions. The maps of one land are one source item."""

    key: str
    name: str
    file: Path
    colours: dict[str, int]
    """Name of a division -> 0xRRGGBB."""


def maps(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One question on each map in turn, as long as they are wanted, each time in another size."""
    atlas = [one for one in _atlas(materials) if in_split(one.key, split)]
    while atlas:
        for one in rng.sample(atlas, len(atlas)):
            language: Language = rng.choices(("en", "zh"), (7, 3))[0]
            yield _question(one, rng.choice(list(CATEGORY)), language, rng)


def _question(one: AtlasMap, task: str, language: Language, rng: Random) -> Sample:
    with Image.open(one.file) as file:
        image = file.convert("RGB")
    pixels = np.asarray(image).astype(np.int32)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    sizes = {name: int((codes == colour).sum()) for name, colour in one.colours.items()}
    names = [name for name, size in sizes.items() if size >= MIN_PIXELS] or list(one.colours)
    name = rng.choice(names)
    mask = codes == one.colours[name]
    image, scale = _resized(image, rng)
    boxes = [tuple(scale * side for side in box) for box in covering(mask)]
    whole = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    inside = max(boxes, key=lambda box: min(box[2] - box[0], 3 * (box[3] - box[1])))
    point = ((inside[0] + inside[2]) / 2, (inside[1] + inside[3]) / 2)
    if task in ("marked", "dot"):
        _mark(image, point)
    question = ASK[language][task].format(map=one.name, name=name)
    if task == "bbox":
        said = labelled(name, [box_tag(whole, image.size)])
        answer = Answer(said, "bbox")
    elif task == "dot":
        said = box_tag(whole, image.size)
        answer = Answer(said, "bbox")
    elif task == "point":
        said = labelled(name, [point_tag(point, image.size)])
        answer = Answer(region(boxes, image.size), "point")
    else:
        others = [other for other in names if other != name]
        if task == "north":
            others = [other for other in others if _is_south(codes, one.colours[other], mask)]
        wrong = rng.sample(others, min(3 if task == "marked" else 1, len(others)))
        if not wrong:
            return _question(one, "dot", language, rng)
        question, answer = lettered(rng, question, name, wrong)
        said = answer.text
    return Sample(
        category=CATEGORY[task],
        origin=PACKAGE,
        items=(one.key,),
        language=language,
        turns=(Turn((Picture(image), question), boxed(said)),),
        answer=answer,
    )


def covering(mask: np.ndarray) -> list[Box]:
    """Boxes whose union is nearly the true part of `mask` [H, W], a few in each of up to `BANDS` bands."""
    rows = np.flatnonzero(mask.any(1))
    edges = np.linspace(rows[0], rows[-1] + 1, min(BANDS, rows[-1] + 1 - rows[0]) + 1).round().astype(int)
    boxes: list[Box] = []
    for top, bottom in pairwise(edges):
        full = mask[top:bottom].mean(0) >= 0.5
        if not full.any():
            full = mask[top:bottom].any(0)
        steps = np.flatnonzero(np.diff(np.concatenate(([0], full.astype(np.int8), [0]))))
        boxes += [(int(left), int(top), int(right), int(bottom)) for left, right in zip(steps[::2], steps[1::2])]
    wide = [box for box in boxes if box[2] - box[0] > 2]
    return (wide or boxes)[:100]


def _is_south(codes: np.ndarray, colour: int, of: np.ndarray) -> bool:
    """Whether that division's middle lies an eighth of the map below that of `of`."""
    other = np.flatnonzero((codes == colour).any(1))
    return bool(other.mean() - np.flatnonzero(of.any(1)).mean() > len(codes) / 8)


def _resized(image: Image.Image, rng: Random) -> tuple[Image.Image, float]:
    scale = min(1.0, MAX_SIDE / max(image.size)) * rng.uniform(0.6, 1.0)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS), scale


def _mark(image: Image.Image, point: tuple[float, float]) -> None:
    x, y = point
    radius = max(4, min(image.size) // 60)
    draw = ImageDraw.Draw(image)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(230, 0, 0), outline=(255, 255, 255), width=2)


def land_of(stem: str) -> str:
    """What a file is a map of: `portugal_districts` and `portugal_regions` show one land."""
    land = stem.partition("_")[0].removesuffix("province")
    return {"republic": "ireland"}.get(land, land)


@lru_cache(maxsize=2)
def _atlas(materials: Materials) -> tuple[AtlasMap, ...]:
    return tuple(_read_atlas(materials))


def _read_atlas(materials: Materials) -> Iterator[AtlasMap]:
    if PACKAGE not in materials:
        return
    for path in sorted(materials.folders[PACKAGE].rglob("*.kgm")):
        root = ElementTree.parse(path).getroot()
        picture = path.with_name(root.findtext("mapFile", "").strip())
        colours: dict[str, int] = {}
        for division in root.iter("division"):
            name, colour = (division.findtext("name") or "").strip(), division.find("color")
            if division.find("ignore") is None and name and colour is not None:
                red, green, blue = (int(colour.findtext(part, "0")) for part in ("red", "green", "blue"))
                colours[name] = red << 16 | green << 8 | blue
        if picture.is_file() and len(colours) >= 3:
            yield AtlasMap(f"map:{land_of(path.stem)}", (root.findtext("name") or path.stem).strip(), picture, colours)


@lru_cache(maxsize=2)
def flag_files(materials: Materials) -> dict[str, Path]:
    """Name of a country or state -> the picture of its flag."""
    if PACKAGE not in materials:
        return {}
    found: dict[str, Path] = {}
    for path in sorted(materials.folders[PACKAGE].rglob("*.kgm")):
        for division in ElementTree.parse(path).getroot().iter("division"):
            file = path.parent / "flags" / (division.findtext("flag") or "").strip()
            if file.suffix == ".png" and file.is_file():
                found.setdefault((division.findtext("name") or "").strip(), file)
    return found
