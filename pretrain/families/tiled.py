"""Models whose tower reads squares of one size: a picture is one of them, or cut into several. Positions just count.

A square is cut into patches to travel, raster order within each, and put together again before the tower.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pretrain.families.family import BICUBIC, Family, Shown, TowerSize, fixed, normalised
from pretrain.models.positions import Grid
from pretrain.processing.patches import to_patches
from pretrain.processing.resize import PixelLimits

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Tiled(Family):
    encoder = ("model.vision_tower.",)
    connector = ("model.multi_modal_projector.",)
    renamed: ClassVar = {
        "model.language_model.": "model.language_model.",
        "model.vision_tower.": "model.vision_tower.",
        "model.multi_modal_projector.": "model.multi_modal_projector.",
        "lm_head.": "lm_head.",
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "vision_tower.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    }
    axes = ()
    processors: ClassVar[tuple[str, ...]]
    """`image_processor_type` of the ones that are done here."""

    @classmethod
    def sees(cls, config: Mapping[str, Any]) -> bool:
        return _image_token(config) is not None

    @property
    def modalities(self) -> Mapping[str, int]:
        return {"image": _image_token(self.config)}

    @property
    def written(self) -> tuple[int, ...]:
        return (_image_token(self.config),)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return _side(self.config["vision_config"]["patch_size"])

    @property
    def square(self) -> int:
        """Side of a square in pixels."""
        return _side(self.config["vision_config"]["image_size"])

    @property
    def columns(self) -> int:
        return 3 * self.patch**2

    @property
    def smallest(self) -> Grid:
        return 1, self.square // self.patch, self.square // self.patch

    @cached_property
    def processor(self) -> dict[str, Any]:
        """What the folder says of its image processor.

        Raises:
            ConfigError: it wants what is not done here.
        """
        found = self.read_processor()
        kind = str(found.get("image_processor_type", self.processors[0])).removesuffix("Fast").removesuffix("Pil")
        fixed("image_processor_type", kind if kind not in self.processors else None, self.processors[0], self)
        for name in ("do_resize", "do_rescale", "do_normalize"):
            fixed(name, found.get(name), True, self)
        fixed("do_pad", found.get("do_pad"), False, self)
        fixed("resample", found.get("resample"), BICUBIC, self)
        return found

    @property
    @abstractmethod
    def most(self) -> int:
        """Squares of a picture at most."""

    @cached_property
    def limits(self) -> PixelLimits:
        """One square, and the most of them."""
        assert self.processor is not None
        return PixelLimits(self.square**2, self.most * self.square**2)

    def require_own(self, limits: PixelLimits) -> None:
        """
        Raises:
            ConfigError: other limits are asked for than the model's own.
        """
        if limits != self.limits:
            raise self.refuse(
                f"pictures of {self.config['model_type']} have {self.square} x {self.square} pixels, whatever "
                "min_pixels and max_pixels say: leave them out"
            )

    @abstractmethod
    def squares(self, image: Image.Image) -> np.ndarray:
        """uint8 [t, square, square, 3] of an RGB picture."""

    def cut(self, image: Image.Image, limits: PixelLimits) -> np.ndarray:
        self.require_own(limits)
        return to_patches(self.squares(image), self.patch, 1)

    def longest(self, limits: PixelLimits) -> Grid:
        return self.most, *self.smallest[1:]

    def encode(self, lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        import torch

        output = lm.model.get_image_features(self.pixels(patches).to(lm.dtype), return_dict=True)
        return (torch.cat(list(output.pooler_output)),)

    def hidden_states(
        self, lm: PreTrainedModel, embeddings: Tensor, positions: Tensor, places: Tensor, deeper: Sequence[Tensor]
    ) -> Tensor:
        output = lm.model.language_model(inputs_embeds=embeddings, position_ids=positions, use_cache=False)
        return output.last_hidden_state

    def inputs(self, token_ids: Tensor, shown: Sequence[Shown]) -> dict[str, Tensor]:
        import torch

        if not shown:
            return {}
        patches = torch.from_numpy(np.concatenate([picture.patches for _, picture in shown]))
        return {"pixel_values": self.pixels(patches.to(token_ids.device))}

    def pixels(self, patches: Tensor) -> Tensor:
        """Bytes [P, 3 p p] -> normalised float32 [t, 3, square, square]."""
        side = self.square // self.patch
        channels = normalised(patches, self.processor).unflatten(-1, (self.patch, self.patch))
        cells = channels.unflatten(0, (-1, side, side))
        return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def tower_size(self, vision: PreTrainedConfig, text_width: int) -> TowerSize:
        return TowerSize(
            depth=vision.num_hidden_layers,
            full=vision.num_hidden_layers,
            width=vision.hidden_size,
            inner=vision.intermediate_size,
            matrices=2,
            connector=self.merge**2 * vision.hidden_size * text_width + text_width**2,
        )


def _image_token(config: Mapping[str, Any]) -> int | None:
    """Under its older name too."""
    return config.get("image_token_id", config.get("image_token_index"))


def _side(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else size[0]
