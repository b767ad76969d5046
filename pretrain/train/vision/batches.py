"""Numbers of pictures -> rows read, pictures decoded -> **micro-batches of one rank**, a step ahead of the learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.pictures import in_threads
from pangu_rl.errors import DataError
from pangu_rl.loops.decoding import decode_bounded
from pangu_rl.records import Picture
from pretrain.contrastive.regions import Region, RegionPatches, padded_classes, region_patches, sample_regions
from pretrain.processing.patches import load_picture, load_square
from pretrain.processing.resize import PATCH, TOKEN, PixelLimits
from pretrain.train.vision.picture_file import PictureFile
from pretrain.train.vision.pictures_of_rows import image_at, skipped
from pretrain.train.vision.places import places_of


@dataclass(frozen=True, slots=True)
class PictureBatch:
    """One rank's part of a step."""

    numbers: np.ndarray
    """int64 [N], of the stage's pictures."""
    edge: int
    """Pixels. Of a square its side; of a picture in its own shape the area is at most `edge` squared, and no less than
    a token's width and height under it."""
    lr: float


@dataclass(frozen=True, slots=True)
class RegionsOfKind:
    """Objects, or lines of text."""

    patches: RegionPatches
    classes: Tensor
    """int64 [S, L]"""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """So many pictures of the part as have a graph at once."""

    patches: Tensor
    """uint8 [P, 588]"""
    grids: Tensor
    """int64 [N, 3]"""
    labels: Tensor | None
    """int64 [N, L]; None in the text-aware stage."""
    regions: tuple[RegionsOfKind, ...] = ()
    """Objects and lines in the text-aware stage."""
    skipped: tuple[str, ...] = ()
    """Why pictures that others stand for cannot be used."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A picture of the stage, read."""

    number: int
    entry: dict[str, Any]
    """Of the file of labels or regions."""
    picture: Picture


class BatchReader:
    """Reads, decodes and cuts what a rank is told to."""

    def __init__(self, config: VisionStageConfig, files: RowFiles, pictures: PictureFile) -> None:
        self._config, self._files, self._pictures = config, files, pictures
        self._root = resolve_path(config.data.media_root)
        self._tokenizer = None
        if config.regions is not None:
            self._tokenizer = AutoTokenizer.from_pretrained(
                resolve_path(config.model.path), trust_remote_code=config.model.trust_remote_code
            )

    def load(self, batch: PictureBatch, step: int) -> list[MicroBatch]:
        """
        Raises:
            DataError: a picture that cannot be used and may not be skipped, or none of the part can be used.
        """
        part: list[int] = batch.numbers.tolist()
        size = self._config.learner.micro_batch or max(len(part), 1)
        starts = range(0, max(len(part), 1), size)
        return [self._micro_batch(part[start : start + size], part, batch.edge, step) for start in starts]

    def _micro_batch(self, numbers: Sequence[int], part: Sequence[int], edge: int, step: int) -> MicroBatch:
        shown, reasons = self._shown(numbers, part, edge)
        patches = torch.from_numpy(np.concatenate([one.picture.patches for one in shown]))
        grids = torch.tensor([one.picture.grid for one in shown])
        if self._config.regions is None:
            labels = torch.tensor([one.entry["labels"] for one in shown])
            return MicroBatch(patches, grids, labels, skipped=reasons)
        shapes = [tuple(grid) for grid in grids.tolist()]
        regions: tuple[list[Region], list[Region]] = ([], [])
        for number, (one, (_, rows, columns)) in enumerate(zip(shown, shapes, strict=True)):
            for place in places_of(one.entry):
                region = place.region(number, (columns * PATCH, rows * PATCH), self._tokenizer)
                regions[place.text is not None].append(region)
        keys = [(self._config.trainer.seed, step, one.number) for one in shown]
        return MicroBatch(patches, grids, None, tuple(self._drawn(own, keys, shapes) for own in regions), reasons)

    def _shown(self, numbers: Sequence[int], part: Sequence[int], edge: int) -> tuple[list[_Shown], tuple[str, ...]]:
        """Pictures of `part`, and why some cannot be used. For each of them the next that can stands, so that ranks
        have as many as each other."""
        found = self._read(numbers, edge)
        reasons = tuple(skipped(self._config, one) for one in found if isinstance(one, DataError))
        shown = [
            self._next(number, part, edge) if isinstance(one, DataError) else one
            for number, one in zip(numbers, found, strict=True)
        ]
        return shown, reasons

    def _next(self, number: int, part: Sequence[int], edge: int) -> _Shown:
        place = part.index(number)
        for other in (*part[place + 1 :], *part[:place]):
            if isinstance(one := self._read([other], edge)[0], _Shown):
                return one
        raise DataError(f"none of {len(part)} pictures of a rank can be used: {self._read([number], edge)[0]}")

    def _read(self, numbers: Sequence[int], edge: int) -> list[_Shown | DataError]:
        """Rows one after the other, their pictures in threads."""
        return list(in_threads(partial(self._opened, edge=edge), [self._named(number) for number in numbers]))

    def _named(self, number: int) -> tuple[int, dict[str, Any], str] | DataError:
        entry = self._pictures.entry(number)
        try:
            return number, entry, image_at(self._files, entry["row"], entry["picture"])
        except DataError as reason:
            return reason

    def _opened(self, named: tuple[int, dict[str, Any], str] | DataError, edge: int) -> _Shown | DataError:
        if isinstance(named, DataError):
            return named
        number, entry, image = named
        try:
            return _Shown(number, entry, self._load(image, edge))
        except DataError as reason:
            return reason

    def _load(self, image: str, edge: int) -> Picture:
        if self._config.shape == "square":
            return load_square(image, self._root, edge=edge, decode=decode_bounded)
        limits = PixelLimits(max(edge - TOKEN, TOKEN) ** 2, edge**2)
        return load_picture(image, self._root, limits=limits, decode=decode_bounded)

    def _drawn(
        self, regions: list[Region], keys: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, int, int]]
    ) -> RegionsOfKind:
        config = self._config.regions
        drawn = sample_regions(regions, config.per_picture, keys, config.min_side)
        return RegionsOfKind(region_patches(drawn, shapes, PATCH), padded_classes(drawn))


def padded_labels(parts: Sequence[Tensor], none: int = -1) -> Tensor:
    """int64 [N, L] of all parts, `none` where one has fewer columns than the most."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=none) for part in parts])
