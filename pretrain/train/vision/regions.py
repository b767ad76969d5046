"""Rows' boxes and transcripts -> objects in clusters, lines of text in tokens -> **regions of each picture**, once.

    rows --boxes--> crops --teacher, k-means--> labels --.
      '----transcripts, the whole picture a line----------+--> regions.parquet --> Regions of a batch

Boxes are shares of a picture's sides, so they hold at every resolution of the cascade.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pretrain.contrastive.kmeans import fit_centres, nearest_classes
from pretrain.contrastive.regions import Region
from pretrain.processing.pictures import open_picture
from pretrain.train.vision.labels import drawn
from pretrain.train.vision.teacher import embed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REGIONS = "regions.parquet"
COLUMNS = ("image", "box", "text", "labels", "confidence")
_BOX = re.compile(r"<\|box_start\|>\((\d{3}),(\d{3})\),\((\d{3}),(\d{3})\)<\|box_end\|>")
_ANSWER = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """A region before it has classes: of a line its text, of an object none."""

    image: str
    box: Box
    text: str | None
    labels: tuple[int, ...] | None = None
    confidence: float = 1.0

    def region(self, picture: int, size: tuple[int, int], tokenizer: PreTrainedTokenizerBase) -> Region:
        """In picture number `picture` of a batch, which is shown at `size` (width, height) pixels."""
        box = tuple(share * side for share, side in zip(self.box, (*size, *size), strict=True))
        classes = self.labels
        if self.text is not None:
            classes = tuple(dict.fromkeys(tokenizer(self.text, add_special_tokens=False)["input_ids"]))
        return Region(picture=picture, box=box, classes=classes or (), confidence=self.confidence)


def make_regions(config: VisionStageConfig, target: Path) -> None:
    """Find regions, cluster the objects among them, and write `target`; deterministic.

    Raises:
        DataError: a row or picture that cannot be used, or no region. ConfigError: more classes than objects.
    """
    places = list(_places(config))
    objects = [place for place in places if place.text is None]
    if not places:
        raise DataError(f"{config.data.train}: no row names a box, and none has source {config.regions.lines_of!r}")
    if config.classes > len(objects):
        raise ConfigError(f"classes {config.classes} of {len(objects)} objects: ask for fewer, or use more rows")
    root = resolve_path(config.data.media_root)
    embeddings = embed(objects, lambda place: _crop(place, root), config.teacher)
    centres = fit_centres(embeddings, config.classes, passes=config.teacher.passes, seed=config.trainer.seed)
    found = iter(nearest_classes(embeddings, centres, config.labels).tolist())
    columns: dict[str, list[Any]] = {
        "image": [place.image for place in places],
        "box": [list(place.box) for place in places],
        "text": [place.text for place in places],
        "labels": [next(found) if place.text is None else None for place in places],
        "confidence": [place.confidence for place in places],
    }
    types = {"text": pa.string(), "labels": pa.list_(pa.int64())}
    partial = target.with_name(f".{target.name}")
    pq.write_table(pa.table({name: pa.array(column, types.get(name)) for name, column in columns.items()}), partial)
    partial.replace(target)


def read_regions(path: Path, config: VisionStageConfig) -> dict[str, tuple[Place, ...]]:
    """Picture -> its regions.

    Raises:
        DataError: no such file, other columns, a region that is neither object nor line, a class that does not exist;
            as `drawn`.
    """
    try:
        rows = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"regions.file {path}: no Parquet with columns {', '.join(COLUMNS)}: {error}") from None
    found: dict[str, list[Place]] = {}
    for number, row in enumerate(rows, start=1):
        labels = row["labels"] and tuple(row["labels"])
        if (row["text"] is None) == (labels is None):
            raise DataError(f"{path}, row {number}: a region has text (a line) or labels (an object), and not both")
        if labels and not all(0 <= label < config.classes for label in labels):
            raise DataError(f"{path}, row {number}: labels {list(labels)}, the classes are 0 to {config.classes - 1}")
        place = Place(row["image"], tuple(row["box"]), row["text"], labels, row["confidence"])
        found.setdefault(place.image, []).append(place)
    pictures = list(found.items())
    return {image: tuple(places) for image, places in (pictures[n] for n in drawn(len(found), config, str(path)))}


def _places(config: VisionStageConfig) -> Iterator[Place]:
    """Of rows with one picture: the boxes that the assistant names, and transcripts."""
    files = open_rows([resolve_path(config.data.train)], on_bad_row="refuse")
    seen: set[tuple[str, Box]] = set()
    for index in range(len(files)):
        row = files.read(index)
        if not isinstance(row, Conversation) or len(row.images) != 1:
            continue
        for place in _of_row(row.images[0], _said(row), files.source(index) == config.regions.lines_of):
            if (place.image, place.box) not in seen:
                seen.add((place.image, place.box))
                yield place


def _of_row(image: str, said: Sequence[str], is_transcript: bool) -> Iterator[Place]:
    if is_transcript and said:
        answer = _ANSWER.search(said[-1])
        yield Place(image, (0.0, 0.0, 1.0, 1.0), answer[1] if answer else said[-1])
    for text in said:
        for corners in _BOX.findall(text):
            left, top, right, bottom = (int(value) / 1000 for value in corners)
            if left < right and top < bottom:
                yield Place(image, (left, top, right, bottom), None)


def _said(row: Conversation) -> list[str]:
    """The assistant's turns."""
    return [
        message["content"]
        for message in row.messages
        if message["role"] == "assistant" and isinstance(message["content"], str)
    ]


def _crop(place: Place, root: Path) -> Image.Image:
    image = open_picture(place.image, root).image
    sides = (*image.size, *image.size)
    left, top, right, bottom = (round(share * side) for share, side in zip(place.box, sides, strict=True))
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
