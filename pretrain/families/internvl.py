"""InternVL of transformers: a picture is cut into up to twelve squares, and shown whole in one more behind them."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pretrain.families.family import BICUBIC, fixed
from pretrain.families.tiled import Tiled
from pretrain.models.positions import Grid
from pretrain.processing.resize import PixelLimits

if TYPE_CHECKING:
    from PIL import Image

MARKS = ("<img>", "</img>")
"""Stand around the placeholders of a picture; the chat template does not write them."""


class InternVL(Tiled):
    model_types = ("internvl",)
    served: ClassVar = {"InternVLForConditionalGeneration": None}
    processors = ("GotOcr2ImageProcessor",)

    @property
    def merge(self) -> int:
        return round(1 / self.config.get("downsample_ratio", 0.5))

    @cached_property
    def processor(self) -> dict:
        found = super().processor
        fixed("vision_feature_select_strategy", self.config.get("vision_feature_select_strategy"), "default", self)
        fixed("size", found.get("size"), {"height": self.square, "width": self.square}, self)
        return found

    @property
    def most(self) -> int:
        tiles = self.processor.get("max_patches") or 12
        return tiles + 1 if tiles > 1 else 1

    @cached_property
    def marks(self) -> list[int]:
        """Ids of `MARKS`.

        Raises:
            ConfigError: the tokenizer has none.
        """
        try:
            added = json.loads((self.folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
            ids = {token["content"]: token["id"] for token in added}
            return [ids[mark] for mark in MARKS]
        except (OSError, ValueError, KeyError) as error:
            raise self.refuse(f"its tokenizer.json has no tokens {' and '.join(MARKS)} ({error})") from None

    def run(self, placeholder: int, grid: Grid) -> list[int]:
        start, end = self.marks
        return [start, *super().run(placeholder, grid), end]

    def grid(self, height: int, width: int, limits: PixelLimits) -> Grid:
        self.require_own(limits)
        columns, rows = self._canvas(height, width)
        tiles = columns * rows
        return tiles + 1 if tiles > 1 else 1, *self.smallest[1:]

    def squares(self, image: Image.Image) -> np.ndarray:
        columns, rows = self._canvas(image.height, image.width)
        whole = np.asarray(image.resize((columns * self.square, rows * self.square), BICUBIC))
        tiles = whole.reshape(rows, self.square, columns, self.square, 3).swapaxes(1, 2)
        tiles = tiles.reshape(-1, self.square, self.square, 3)
        if len(tiles) == 1:
            return tiles
        thumbnail = np.asarray(image.resize((self.square, self.square), BICUBIC))
        return np.concatenate([tiles, thumbnail[None]])

    def _canvas(self, height: int, width: int) -> tuple[int, int]:
        """(columns, rows) of squares whose shape is nearest to the picture's; of several that are equally near, the
        one with the most squares that is not more than twice as large as the picture, as transformers has it."""
        fewest, most = self.processor.get("min_patches") or 1, self.processor.get("max_patches") or 12
        sizes = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if fewest <= c * r <= most]
        best, difference = (1, 1), float("inf")
        for columns, rows in sorted(sizes, key=lambda size: size[0] * size[1]):
            found = abs(width / height - columns / rows)
            large_enough = width * height > 0.5 * self.square**2 * columns * rows
            if found < difference or (found == difference and large_enough):
                best, difference = (columns, rows), found
        return best
