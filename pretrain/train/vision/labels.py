"""Pictures -> embeddings of a real encoder -> clusters -> **the labels of each picture**, once, in the run directory.

    rows' images --teacher--> [N, 1280] --k-means--> centres --nearest--.
                         labels made elsewhere (id, labels) ------------+--> labels.arrow

What is trained on afterwards are the labels alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.errors import DataError
from pretrain.train.vision.given import given_labels
from pretrain.train.vision.picture_file import PictureFile, labels_schema, place_columns, write_pictures
from pretrain.train.vision.pictures_of_rows import RowPictures, distinct_pictures
from pretrain.train.vision.teacher import cluster_labels

LABELS = "labels.arrow"
PLACES = "places.npy"


def drawn(count: int, config: VisionStageConfig, where: str) -> int:
    """How many of `count` pictures the stage has.

    Raises:
        DataError: there are none, or fewer than a batch, or than `data.pictures` where none may be skipped.
    """
    wanted = config.data.pictures or max(count, 1)
    if config.data.on_bad_row == "skip":
        wanted = min(wanted, max(count, 1))
    if wanted > count:
        raise DataError(f"{where}: {count} pictures, data.pictures asks for {wanted}: set it lower, or give more")
    if wanted < config.batch:
        raise DataError(f"{where}: {wanted} pictures are fewer than a batch of {config.batch}: set batch lower")
    return wanted


def make_labels(config: VisionStageConfig, files: RowFiles, target: Path) -> None:
    """Embed and cluster the pictures of the rows, and write `target`: of more than `data.pictures` so many, drawn by
    the seed. The same pictures, teacher and seed give the same labels.

    Raises:
        DataError: a picture that cannot be used and may not be skipped; as `drawn`. ConfigError: more classes than
            pictures, the teacher is not installed.
    """
    places = distinct_pictures(config, files)
    wanted = drawn(len(places), config, files.name)
    places = places[np.sort(np.random.default_rng(config.trainer.seed).permutation(len(places))[:wanted])]
    listed = target.with_name(PLACES)
    np.save(listed, places)
    try:
        make = partial(RowPictures, files, resolve_path(config.data.media_root), listed)
        labels = cluster_labels(make, wanted, config, target.parent, "pictures")
        write_pictures(
            target, _tables(places, labels, config.labels), labels_schema(config.labels), files, config.classes
        )
    finally:
        listed.unlink(missing_ok=True)


def take_labels(config: VisionStageConfig, files: RowFiles, target: Path) -> None:
    """Find the rows of labels that were made elsewhere, and write `target`; raises as `given_labels`."""
    tables = given_labels(resolve_path(config.data.labels), config, files)
    write_pictures(target, tables, labels_schema(config.labels), files, config.classes)


def open_labels(path: Path, config: VisionStageConfig, files: RowFiles) -> PictureFile:
    """
    Raises:
        DataError: no such file, one of regions, of other rows or classes, or of another number of labels.
    """
    found = PictureFile(path)
    if not found.schema.equals(wanted := labels_schema(config.labels)):
        columns = (", ".join(f"{field.name} {field.type}" for field in schema) for schema in (found.schema, wanted))
        raise DataError("{} has {}; the stage wants {}".format(path, *columns))
    found.require(files, config.classes)
    return found


def _tables(places: np.ndarray, labelled: Iterator[tuple[np.ndarray, Tensor]], count: int) -> Iterator[pa.Table]:
    for numbers, labels in labelled:
        own = places[numbers]
        column = pa.FixedSizeListArray.from_arrays(pa.array(labels.flatten().numpy(), pa.int32()), count)
        yield pa.table({**place_columns(own["row"], own["picture"]), "labels": column})
