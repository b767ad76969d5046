"""One family's samples of one split -> **rows, and their pictures written**; a gold is graded before it is kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from PIL import Image

from data_curation.corpus.families import FAMILIES
from data_curation.corpus.materials import Materials
from data_curation.schema import BOX_TYPES, Picture, Row, Sample, row_of
from data_curation.sources.items import Split
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import BadGold, Gold

SEED = 20261122
MEDIA = "media"
PNG_UP_TO = 96 * 96
"""Pixels; larger pictures are JPEG."""
JPEG_QUALITY = 85
MAX_IN_VAIN = 200
"""A family that yields so many samples on end that cannot be kept has no more to give."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one process makes at a time."""

    family: str
    split: Split
    count: int


@dataclass(slots=True)
class Written:
    """What came of a unit."""

    rows: list[Row] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Path of a picture -> width and height."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Why a sample was not kept -> how many."""


def write_unit(unit: Unit, materials: Materials, folder: Path) -> Written:
    """Draw `unit.count` samples, fewer if the family has no more, and save their pictures under `folder`."""
    written, seen = Written(), set[str]()
    names = (f"{MEDIA}/{unit.family}/{unit.split}-{number:05d}" for number in count())
    (folder / MEDIA / unit.family).mkdir(parents=True, exist_ok=True)
    in_vain = 0
    for sample in _samples(unit, materials):
        problem = _problem(sample, seen)
        if problem is not None:
            written.left_out[problem] += 1
            in_vain += 1
            if in_vain > MAX_IN_VAIN:
                break
            continue
        in_vain = 0
        paths = {picture: _save(picture.image, next(names), folder) for picture in sample.pictures}
        written.sizes |= {path: picture.image.size for picture, path in paths.items()}
        uid = f"{unit.family}-{unit.split}-{len(written.rows):05d}"
        written.rows.append(row_of(sample, uid, paths, with_response=unit.split == "sft"))
        if len(written.rows) == unit.count:
            break
    return written


def grades_itself(sample: Sample) -> bool:
    """Whether the last response is correct by the gold's grader; a sample without a gold has none to fail."""
    if sample.answer is None:
        return True
    gold = Gold(
        text=sample.answer.text,
        answer_type=sample.answer.type,
        choices=sample.answer.choices,
        coordinates="0-999" if sample.answer.type in BOX_TYPES else "pixel",
    )
    said = extract_boxed(sample.turns[-1].response)
    try:
        part = grade_directly(said, gold) if said is not None else None
    except BadGold:
        return False
    return part is not None and part.outcome == "correct"


def _samples(unit: Unit, materials: Materials) -> Iterator[Sample]:
    rng = Random(f"{SEED}/{unit.family}/{unit.split}")
    return FAMILIES[unit.family].samples(materials, unit.split, rng) if unit.count else iter(())


def _problem(sample: Sample, seen: set[str]) -> str | None:
    """Why a sample cannot be kept; `seen` has the digests of those before it."""
    digest = hashlib.sha256()
    for turn in sample.turns:
        for part in turn.asked:
            digest.update(part.image.tobytes() if isinstance(part, Picture) else part.encode())
    if digest.hexdigest() in seen:
        return "the same as one before"
    seen.add(digest.hexdigest())
    return None if grades_itself(sample) else "its gold does not grade itself correct"


def _save(image: Image.Image, name: str, folder: Path) -> str:
    """The picture's path relative to `folder`."""
    if image.width * image.height <= PNG_UP_TO:
        path = f"{name}.png"
        image.save(folder / path)
    else:
        path = f"{name}.jpg"
        image.save(folder / path, quality=JPEG_QUALITY)
    return path
