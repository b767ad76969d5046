"""Qwen2-VL and Qwen2.5-VL of transformers: native resolution, 2 x 2 patches a token, positions on three axes.

Sizes, order of patches and normalisation are those of `Qwen2VLImageProcessor`, done here with Pillow and numpy, so that
neither torchvision nor a video decoder is needed. Pictures travel as bytes of one frame; normalising, and the frame's
second copy that the patch embedding reads, happen on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pretrain.families.family import BICUBIC, Family, Shown, TowerSize, fixed, normalised
from pretrain.models.positions import MERGE, Grid, VisionTokens, multimodal_positions
from pretrain.processing.patches import to_patches
from pretrain.processing.resize import PixelLimits, require_aspect, sides_within

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

FRAMES = 2
"""Of a patch: a still picture's stands for both."""
DEFAULT_SIZE = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
"""Areas in pixels, of a processor that was saved without any."""


class Qwen2VL(Family):
    model_types = ("qwen2_vl", "qwen2_5_vl")
    served: ClassVar = {
        "Qwen2VLForConditionalGeneration": "Qwen2ForCausalLM",
        "Qwen2_5_VLForConditionalGeneration": "Qwen2ForCausalLM",
    }
    encoder = ("model.visual.patch_embed.", "model.visual.blocks.")
    connector = ("model.visual.",)
    merge = MERGE
    renamed: ClassVar = {
        "model.visual.": "model.visual.",
        "model.language_model.": "model.language_model.",
        "visual.": "model.visual.",
        "model.": "model.language_model.",
        "lm_head.": "lm_head.",
    }

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        """
        Raises:
            ConfigError: other numbers of patches are merged than positions and copies of a frame are made for.
        """
        super().__init__(config, folder)
        vision = config["vision_config"]
        fixed("vision_config.spatial_merge_size", vision.get("spatial_merge_size"), MERGE, self)
        fixed("vision_config.temporal_patch_size", vision.get("temporal_patch_size"), FRAMES, self)

    @cached_property
    def tokens(self) -> VisionTokens:
        return VisionTokens(
            image=self.config["image_token_id"],
            video=self.config["video_token_id"],
            start=self.config["vision_start_token_id"],
            end=self.config["vision_end_token_id"],
        )

    @property
    def modalities(self) -> Mapping[str, int]:
        """Of stills alone: between the frames of a video each generation has another scheme."""
        return {"image": self.tokens.image}

    @property
    def written(self) -> tuple[int, ...]:
        return self.tokens.start, self.tokens.image, self.tokens.end

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.config["vision_config"].get("patch_size", 14)

    @property
    def columns(self) -> int:
        return 3 * self.patch**2

    @cached_property
    def processor(self) -> dict[str, Any]:
        """What the folder says of its image processor.

        Raises:
            ConfigError: it wants what is not done here.
        """
        found = self.read_processor()
        kind = str(found.get("image_processor_type", "Qwen2VLImageProcessor"))
        fixed("image_processor_type", kind.removesuffix("Fast").removesuffix("Pil"), "Qwen2VLImageProcessor", self)
        for name in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
            fixed(name, found.get(name), True, self)
        fixed("resample", found.get("resample"), BICUBIC, self)
        fixed("patch_size", found.get("patch_size"), self.patch, self)
        fixed("merge_size", found.get("merge_size"), self.merge, self)
        return found

    @cached_property
    def limits(self) -> PixelLimits:
        size = {**DEFAULT_SIZE, **(self.processor.get("size") or {})}
        return PixelLimits(
            self.processor.get("min_pixels") or size["shortest_edge"],
            self.processor.get("max_pixels") or size["longest_edge"],
        )

    def sides(self, height: int, width: int, limits: PixelLimits) -> tuple[int, int]:
        """(height, width) that a picture is shown at, in pixels; raises as `grid`."""
        require_aspect(height, width)
        return sides_within(height, width, self.patch * self.merge, limits)

    def grid(self, height: int, width: int, limits: PixelLimits) -> Grid:
        height, width = self.sides(height, width, limits)
        return 1, height // self.patch, width // self.patch

    def cut(self, image: Image.Image, limits: PixelLimits) -> np.ndarray:
        height, width = self.sides(image.height, image.width, limits)
        if image.size != (width, height):
            image = image.resize((width, height), BICUBIC)
        return to_patches(np.asarray(image), self.patch, self.merge)

    def positions(self, token_ids: np.ndarray, grids: Sequence[Grid]) -> np.ndarray:
        return multimodal_positions(token_ids, grids, self.tokens)

    def prepare(self, lm: PreTrainedModel) -> None:
        from pretrain.families.tower_attention import attend_in_one_call

        attend_in_one_call(lm.model.visual.blocks)

    def encode(self, lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        return (self._tower(lm, patches, grids).pooler_output,)

    def hidden_states(
        self, lm: PreTrainedModel, embeddings: Tensor, positions: Tensor, places: Tensor, deeper: Sequence[Tensor]
    ) -> Tensor:
        output = lm.model.language_model(inputs_embeds=embeddings, position_ids=positions, use_cache=False)
        return output.last_hidden_state

    def tower_size(self, vision: PreTrainedConfig, text_width: int) -> TowerSize:
        if vision.model_type.startswith("qwen2_5_vl"):
            width, inner, windowed = vision.hidden_size, vision.intermediate_size, True
        else:
            width, inner, windowed = vision.embed_dim, vision.mlp_ratio * vision.embed_dim, False
        merged = self.merge**2 * width
        return TowerSize(
            depth=vision.depth,
            full=len(vision.fullatt_block_indexes) if windowed else vision.depth,
            width=width,
            inner=inner,
            matrices=3 if windowed else 2,
            window=(vision.window_size // self.patch) ** 2 if windowed else 0,
            connector=merged**2 + merged * text_width,
        )

    def inputs(self, token_ids: Tensor, shown: Sequence[Shown]) -> dict[str, Tensor]:
        if not shown:
            return {}
        import torch

        patches = torch.from_numpy(np.concatenate([picture.patches for _, picture in shown]))
        return {
            "pixel_values": self.pixels(patches.to(token_ids.device)),
            "image_grid_thw": token_ids.new_tensor([picture.grid for _, picture in shown]),
            "mm_token_type_ids": (token_ids == self.tokens.image).int(),
        }

    def pixels(self, patches: Tensor) -> Tensor:
        """Bytes [P, 3 p p] -> normalised float32 [P, 3 * 2 * p p], both frames alike, as the processor gives them."""
        channels = normalised(patches, self.processor)
        return channels.unsqueeze(2).expand(-1, -1, FRAMES, -1).flatten(1)

    def _tower(self, lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> Any:
        tower = lm.model.visual
        return tower(self.pixels(patches).to(tower.dtype), grid_thw=grids.to(patches.device), return_dict=True)
