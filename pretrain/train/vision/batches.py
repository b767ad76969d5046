"""Numbers of pictures -> rows read, pictures decoded -> **micro-batches of one rank**, a step ahead of the learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.pictures import in_threads
from pangu_rl.loops.decoding import decode_bounded
from pangu_rl.records import Picture
from pretrain.contrastive.regions import Region, RegionPatches, padded_classes, region_patches, sample_regions
from pretrain.processing.patches import load_picture, load_square
from pretrain.processing.resize import PATCH, TOKEN, PixelLimits
from pretrain.train.vision.picture_file import PictureFile
from pretrain.train.vision.pictures_of_rows import image_at
from pretrain.train.vision.regions import places_of


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
            DataError: a picture that cannot be used.
        """
        size = self._config.learner.micro_batch or max(len(batch.numbers), 1)
        starts = range(0, max(len(batch.numbers), 1), size)
        return [self._micro_batch(batch.numbers[start : start + size].tolist(), batch.edge, step) for start in starts]

    def pictures(self, images: Sequence[str], edge: int) -> tuple[Tensor, Tensor]:
        """uint8 [P, 588] and int64 [N, 3]; raises as `load`."""
        load = partial(load_square, edge=edge, decode=decode_bounded)
        if self._config.shape == "native":
            limits = PixelLimits(max(edge - TOKEN, TOKEN) ** 2, edge**2)
            load = partial(load_picture, limits=limits, decode=decode_bounded)
        loaded: list[Picture] = list(in_threads(lambda name: load(name, self._root), images))
        patches = np.concatenate([picture.patches for picture in loaded])
        return torch.from_numpy(patches), torch.tensor([picture.grid for picture in loaded])

    def _micro_batch(self, numbers: Sequence[int], edge: int, step: int) -> MicroBatch:
        entries = [self._pictures.entry(number) for number in numbers]
        images = [image_at(self._files, entry["row"], entry["picture"]) for entry in entries]
        patches, grids = self.pictures(images, edge)
        if self._config.regions is None:
            return MicroBatch(patches, grids, torch.tensor([entry["labels"] for entry in entries]))
        shapes = [tuple(grid) for grid in grids.tolist()]
        regions: tuple[list[Region], list[Region]] = ([], [])
        for picture, (entry, (_, rows, columns)) in enumerate(zip(entries, shapes, strict=True)):
            for place in places_of(entry):
                region = place.region(picture, (columns * PATCH, rows * PATCH), self._tokenizer)
                regions[place.text is not None].append(region)
        keys = [(self._config.trainer.seed, step, number) for number in numbers]
        return MicroBatch(patches, grids, None, tuple(self._drawn(own, keys, shapes) for own in regions))

    def _drawn(
        self, regions: list[Region], keys: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, int, int]]
    ) -> RegionsOfKind:
        config = self._config.regions
        drawn = sample_regions(regions, config.per_picture, keys, config.min_side)
        return RegionsOfKind(region_patches(drawn, shapes, PATCH), padded_classes(drawn))


def labels_of(parts: Sequence[Tensor], none: int = -1) -> Tensor:
    """int64 [N, L] of all parts, `none` where one has fewer columns than the most."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=none) for part in parts])
