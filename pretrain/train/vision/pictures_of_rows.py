"""Rows of files -> **the distinct pictures that they name**, and each of them opened when it is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from PIL import Image

from pangu_rl.cluster.ranges import tables_of
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.drawn_rows import MEND
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.files.row_files import RowFiles, open_rows
from pangu_rl.data.images import image_paths
from pangu_rl.errors import DataError
from pangu_rl.loops.decoding import decode_bounded
from pretrain.processing.pictures import open_picture

log = logging.getLogger(__name__)

NAMED = 100
"""Rows or pictures that are left out, and named in the log."""
PLACES = np.dtype([("row", np.int64), ("picture", np.uint16)])
"""Where a picture lies: a row, and which of its `images`."""


def open_picture_rows(config: VisionStageConfig) -> RowFiles:
    """The rows of `data.train`; they need no more than `images`."""
    return open_rows([resolve_path(config.data.train)], on_bad_row=config.data.on_bad_row)


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

    Raises:
        DataError: a row that cannot be used and may not be skipped.
    """
    tables = tables_of(partial(_Names, files, config), len(files), config.cluster, config.teacher.workers)
    found = pa.concat_tables(list(tables))
    log_left_out(found["reason"].drop_null().to_pylist())
    found = found.filter(found["name"].is_valid())
    firsts = np.sort(np.unique(found["name"].to_numpy(), return_index=True)[1])
    places = np.empty(len(firsts), PLACES)
    for name in PLACES.names:
        places[name] = found[name].to_numpy()[firsts]
    return places


def skipped(config: VisionStageConfig, reason: DataError) -> str:
    """Why a row or picture is left out.

    Raises:
        DataError: it may not be.
    """
    if config.data.on_bad_row == "refuse":
        raise DataError(f"{reason} {MEND}") from None
    return str(reason)


def log_left_out(reasons: Sequence[str]) -> None:
    """Of very many the first."""
    for reason in reasons[:NAMED]:
        log.warning("left out: %s", reason)
    if len(reasons) > NAMED:
        log.warning("left out: %d more", len(reasons) - NAMED)


class _Names:
    """Rows -> a table of the pictures that they name, by the hashes of their names, or why a row cannot be used."""

    def __init__(self, files: RowFiles, config: VisionStageConfig) -> None:
        self._files, self._config = files, config

    def __call__(self, rows: range) -> pa.Table:
        found: list[tuple[int, int, int | None, str | None]] = []
        for row in rows:
            try:
                images = images_of(self._files, row)
            except DataError as reason:
                found.append((row, 0, None, skipped(self._config, reason)))
                continue
            hashes = (xxhash.xxh3_64_intdigest(name.encode()) for name in images)
            found += [(row, number, digest, None) for number, digest in enumerate(hashes)]
        columns = zip(*found, strict=True) if found else ([], [], [], [])
        types = {"row": pa.int64(), "picture": pa.uint16(), "name": pa.uint64(), "reason": pa.string()}
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
