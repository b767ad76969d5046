"""Rows of files -> **the distinct pictures that they name**, and each of them opened when it is due."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from PIL import Image

from pangu_rl.cluster.ranges import tables_of
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.files.row_files import RowFiles, open_rows
from pangu_rl.data.images import image_paths
from pangu_rl.errors import DataError
from pangu_rl.loops.decoding import decode_bounded
from pretrain.processing.pictures import open_picture

PLACES = np.dtype([("row", np.int64), ("picture", np.uint16)])
"""Where a picture lies: a row, and which of its `images`."""


def open_picture_rows(config: VisionStageConfig) -> RowFiles:
    """The rows of `data.train`; they need no more than `images`."""
    return open_rows([resolve_path(config.data.train)], on_bad_row="refuse")


def images_of(files: RowFiles, row: int) -> tuple[str, ...]:
    """
    Raises:
        DataError: a row that cannot be read, or whose `images` are no paths.
    """
    raw, uid = files.raw(row)
    try:
        return image_paths(raw)
    except BadRow as reason:
        raise DataError(f"{files.index.place(row)} ({uid}): {reason}") from None


def image_at(files: RowFiles, row: int, picture: int) -> str:
    """
    Raises:
        DataError: the row names fewer pictures; as `images_of`.
    """
    images = images_of(files, row)
    if picture >= len(images):
        raise DataError(f"{files.where(row)}: picture {picture} is asked for, the row has {len(images)} (from 0)")
    return images[picture]


def distinct_pictures(config: VisionStageConfig, files: RowFiles) -> np.ndarray:
    """`PLACES` [N] of all pictures, each where it is named first, in the rows' order; `teacher.workers` read the rows.

    What is held is 18 bytes for each that a row names.
    """
    tables = list(tables_of(partial(_Names, files), len(files), config.cluster, config.teacher.workers))
    found = pa.concat_tables(tables)
    firsts = np.sort(np.unique(found["name"].to_numpy(), return_index=True)[1])
    places = np.empty(len(firsts), PLACES)
    for name in PLACES.names:
        places[name] = found[name].to_numpy()[firsts]
    return places


class _Names:
    """Rows -> a table of the pictures that they name, by the hashes of their names."""

    def __init__(self, files: RowFiles) -> None:
        self._files = files

    def __call__(self, rows: range) -> pa.Table:
        found = [
            (row, number, xxhash.xxh3_64_intdigest(name.encode()))
            for row in rows
            for number, name in enumerate(images_of(self._files, row))
        ]
        columns = zip(*found, strict=True) if found else ([], [], [])
        types = {"row": pa.int64(), "picture": pa.uint16(), "name": pa.uint64()}
        return pa.table({name: pa.array(c, kind) for (name, kind), c in zip(types.items(), columns, strict=True)})


class RowPictures:
    """Number of a picture -> the picture."""

    def __init__(self, files: RowFiles, root: Path, places: Path) -> None:
        """`places`: a file of `PLACES`, which every process maps."""
        self._files, self._root = files, root
        self._places = np.load(places, mmap_mode="r")

    def names(self, numbers: range) -> list[str]:
        return [image_at(self._files, *place) for place in self._places[numbers.start : numbers.stop].tolist()]

    def open(self, name: str) -> Image.Image:
        return open_picture(name, self._root, decode_bounded).image
