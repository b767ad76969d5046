"""LLaVA 1.5 of transformers: one square a picture, its short side scaled to the square's and the middle cut out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pretrain.families.family import BICUBIC, fixed
from pretrain.families.tiled import Tiled
from pretrain.models.positions import Grid
from pretrain.processing.resize import PixelLimits, require_aspect

if TYPE_CHECKING:
    from PIL import Image


class Llava(Tiled):
    model_types = ("llava",)
    served: ClassVar = {"LlavaForConditionalGeneration": None}
    processors = ("CLIPImageProcessor", "LlavaImageProcessor")
    merge = 1
    most = 1

    @cached_property
    def processor(self) -> dict:
        found = super().processor
        fixed("vision_config.model_type", self.config["vision_config"].get("model_type"), "clip_vision_model", self)
        fixed("vision_feature_select_strategy", self.config.get("vision_feature_select_strategy"), "default", self)
        fixed("do_center_crop", found.get("do_center_crop"), True, self)
        fixed("size", found.get("size"), {"shortest_edge": self.square}, self)
        fixed("crop_size", found.get("crop_size"), {"height": self.square, "width": self.square}, self)
        return found

    def grid(self, height: int, width: int, limits: PixelLimits) -> Grid:
        self.require_own(limits)
        # The short side becomes the square's before the middle is cut out: of a line that is a picture without an end.
        require_aspect(height, width)
        return self.smallest

    def squares(self, image: Image.Image) -> np.ndarray:
        short = min(image.size)
        size = tuple(self.square if side == short else int(self.square * side / short) for side in image.size)
        if image.size != size:
            image = image.resize(size, BICUBIC)
        left, top = ((side - self.square) // 2 for side in size)
        return np.asarray(image)[None, top : top + self.square, left : left + self.square]
