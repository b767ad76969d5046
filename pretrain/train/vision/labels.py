"""Pictures -> embeddings of a real encoder -> clusters -> **the labels of each picture**, once, in the run directory.

    rows' images --teacher--> [N, 1280] --k-means--> centres --nearest--> labels.parquet (image, labels)

The teacher sees every picture once; what is trained on afterwards are its labels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pretrain.contrastive.kmeans import fit_centres, nearest_classes
from pretrain.processing.pictures import open_picture
from pretrain.train.vision.teacher import embed

LABELS = "labels.parquet"


def picture_names(config: VisionStageConfig) -> list[str]:
    """Pictures of the rows, each once, in the rows' order, as many as `drawn` says.

    Raises:
        DataError: a row that cannot be read; as `drawn`.
    """
    files = open_rows([resolve_path(config.data.train)], on_bad_row="refuse")
    names = list(dict.fromkeys(image for index in range(len(files)) for image in files.read(index).images))
    return [names[number] for number in drawn(len(names), config, files.name)]


def drawn(count: int, config: VisionStageConfig, where: str) -> list[int]:
    """Which of `count` pictures are used: of more than `data.pictures` so many, drawn by the seed, in their order.

    Raises:
        DataError: there are none, or fewer than `data.pictures` or a batch.
    """
    wanted = config.data.pictures or max(count, 1)
    if wanted > count:
        raise DataError(f"{where}: {count} pictures, data.pictures asks for {wanted}: set it lower, or give more")
    if wanted < config.batch:
        raise DataError(f"{where}: {wanted} pictures are fewer than a batch of {config.batch}: set batch lower")
    return sorted(np.random.default_rng(config.trainer.seed).permutation(count)[:wanted].tolist())


def make_labels(names: Sequence[str], config: VisionStageConfig, target: Path) -> None:
    """Embed and cluster the pictures, and write `target`; the same pictures, teacher and seed give the same labels.

    Raises:
        DataError: a picture that cannot be used. ConfigError: more classes than pictures, the teacher is not installed.
    """
    if config.classes > len(names):
        raise ConfigError(f"classes {config.classes} of {len(names)} pictures: ask for fewer, or use more pictures")
    root = resolve_path(config.data.media_root)
    embeddings = embed(names, lambda name: open_picture(name, root).image, config.teacher)
    centres = fit_centres(embeddings, config.classes, passes=config.teacher.passes, seed=config.trainer.seed)
    labels = nearest_classes(embeddings, centres, config.labels)
    partial = target.with_name(f".{target.name}")
    pq.write_table(pa.table({"image": names, "labels": pa.array(labels.tolist(), pa.list_(pa.int64()))}), partial)
    partial.replace(target)


def read_labels(path: Path, config: VisionStageConfig) -> tuple[tuple[str, ...], Tensor]:
    """Names of N pictures, and int64 [N, L], the classes that each is a positive of.

    Raises:
        DataError: no such file, other columns, another number of labels, a class that does not exist, too few pictures.
    """
    try:
        table = pq.read_table(path, columns=["image", "labels"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"data.labels {path}: no Parquet with columns image and labels: {error}") from None
    rows = table["labels"].to_pylist()
    for number, row in enumerate(rows, start=1):
        if len(row) != config.labels or not all(0 <= label < config.classes for label in row):
            wanted = f"{config.labels} of 0 to {config.classes - 1}"
            raise DataError(f"{path}, row {number}: labels {row}, the stage wants {wanted}")
    images = table["image"].to_pylist()
    used = drawn(len(images), config, str(path))
    return tuple(images[number] for number in used), torch.tensor([rows[number] for number in used], dtype=torch.int64)
