"""Rows' boxes and transcripts -> objects in clusters, lines of text in tokens -> **regions of each picture**, once.

    rows --boxes--> crops --teacher, k-means--> labels --.
      '----transcripts, the whole picture a line----------+--> regions.arrow --> Regions of a batch
      regions made elsewhere (id, box, text, labels) -----'

Boxes are shares of a picture's sides, so they hold at every resolution of the cascade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
from PIL import Image

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.errors import DataError
from pangu_rl.loops.decoding import decode_bounded
from pretrain.processing.pictures import open_picture
from pretrain.train.vision.given import given_regions
from pretrain.train.vision.picture_file import REGIONS_SCHEMA, PictureFile, write_pictures
from pretrain.train.vision.pictures_of_rows import log_left_out, skipped
from pretrain.train.vision.places import Box, Place
from pretrain.train.vision.teacher import cluster_labels

REGIONS = "regions.arrow"
_BOX = re.compile(r"<\|box_start\|>\((\d{3}),(\d{3})\),\((\d{3}),(\d{3})\)<\|box_end\|>")
_ANSWER = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)
ROWS = 4096
"""Pictures that are written at once."""


def make_regions(config: VisionStageConfig, files: RowFiles, target: Path) -> None:
    """Find regions, cluster the objects among them, and write `target`; deterministic.

    Raises:
        DataError: a row or picture that cannot be used and may not be skipped, or no region. ConfigError: more classes
            than objects.
    """
    shown = _pictures(config, files)
    objects = [(image, place.box) for image, found in shown.items() for place in found.places if place.text is None]
    if not shown:
        raise DataError(f"{config.data.train}: no row names a box, and none has source {config.regions.lines_of!r}")
    make = partial(_Crops, objects, resolve_path(config.data.media_root))
    labels: list[tuple[int, ...] | None] = [None] * len(objects)
    for numbers, own in cluster_labels(make, len(objects), config, target.parent, "objects"):
        for number, found in zip(numbers.tolist(), own.tolist(), strict=True):
            labels[number] = tuple(found)
    write_pictures(target, _tables(shown.values(), iter(labels)), REGIONS_SCHEMA, files, config.classes)


def take_regions(config: VisionStageConfig, files: RowFiles, target: Path) -> None:
    """Find the rows of regions that were made elsewhere, and write `target`; raises as `given_regions`."""
    tables = given_regions(resolve_path(config.regions.file), config, files)
    write_pictures(target, tables, REGIONS_SCHEMA, files, config.classes)


def open_regions(path: Path, config: VisionStageConfig, files: RowFiles) -> PictureFile:
    """
    Raises:
        DataError: no such file, one of whole pictures, or of other rows or classes.
    """
    found = PictureFile(path)
    if not found.schema.equals(REGIONS_SCHEMA):
        raise DataError(f"{path} has {', '.join(found.schema.names)}: these are no regions")
    found.require(files, config.classes)
    return found


@dataclass(frozen=True, slots=True)
class _Picture:
    """Where a picture is named first, and its regions."""

    row: int
    places: list[Place]


def _pictures(config: VisionStageConfig, files: RowFiles) -> dict[str, _Picture]:
    """Of rows with one picture: the boxes that the assistant names, and transcripts."""
    found: dict[str, _Picture] = {}
    bad: list[str] = []
    for index in range(len(files)):
        try:
            row = files.read(index)
        except DataError as reason:
            bad.append(skipped(config, reason))
            continue
        if not isinstance(row, Conversation) or len(row.images) != 1:
            continue
        for place in _of_row(_said(row), files.source(index) == config.regions.lines_of):
            own = found.setdefault(row.images[0], _Picture(index, []))
            if all(place.box != other.box for other in own.places):
                own.places.append(place)
    log_left_out(bad)
    return found


def _of_row(said: Sequence[str], is_transcript: bool) -> Iterator[Place]:
    if is_transcript and said:
        answer = _ANSWER.search(said[-1])
        yield Place((0.0, 0.0, 1.0, 1.0), answer[1] if answer else said[-1])
    for text in said:
        for corners in _BOX.findall(text):
            left, top, right, bottom = (int(value) / 1000 for value in corners)
            if left < right and top < bottom:
                yield Place((left, top, right, bottom), None)


def _said(row: Conversation) -> list[str]:
    """The assistant's turns."""
    return [
        message["content"]
        for message in row.messages
        if message["role"] == "assistant" and isinstance(message["content"], str)
    ]


def _tables(shown: Iterable[_Picture], labels: Iterator[tuple[int, ...] | None]) -> Iterator[pa.Table]:
    """`labels` of the objects, in order; one without any is left out, and a picture without a region."""
    labelled = (
        (
            picture.row,
            [place if place.text is not None else replace(place, labels=next(labels)) for place in picture.places],
        )
        for picture in shown
    )
    regions = ((row, [asdict(one) for one in own if one.text is not None or one.labels]) for row, own in labelled)
    entries = ({"row": row, "picture": 0, "regions": own} for row, own in regions if own)
    while rows := list(islice(entries, ROWS)):
        yield pa.Table.from_pylist(rows, REGIONS_SCHEMA)


class _Crops:
    """Number of an object -> what is in its box."""

    def __init__(self, objects: Sequence[tuple[str, Box]], root: Path) -> None:
        self._objects, self._root = objects, root

    def names(self, numbers: range) -> Sequence[tuple[str, Box]]:
        return self._objects[numbers.start : numbers.stop]

    def open(self, name: tuple[str, Box]) -> Image.Image:
        path, box = name
        image = open_picture(path, self._root, decode_bounded).image
        sides = (*image.size, *image.size)
        left, top, right, bottom = (round(share * side) for share, side in zip(box, sides, strict=True))
        return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
