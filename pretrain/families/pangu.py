"""openPangu-VL and MindVL, our own models: what they do is in `pretrain.models` and `pretrain.processing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pretrain.families.family import Family, Shown, TowerSize
from pretrain.models.positions import MERGE, Grid, VisionTokens, expand_placeholders, multimodal_positions
from pretrain.processing.patches import COLUMNS, resized, to_patches
from pretrain.processing.resize import PixelLimits, grid_of, read_limits, read_processor
from pretrain.processing.video import VideoBudget

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Pangu(Family):
    model_types = ("openpangu_vl", "mindvl")
    encoder = ("visual.patch_embed.", "visual.blocks.")
    connector = ("visual.",)
    renamed: ClassVar = {"model.visual.": "visual.", "model.language_model.": "model."}
    merge = MERGE
    columns = COLUMNS

    @classmethod
    def sees(cls, config: Mapping[str, Any]) -> bool:
        return VisionTokens.from_config_dict(config) is not None

    @cached_property
    def tokens(self) -> VisionTokens:
        return VisionTokens.from_config_dict(self.config)

    @property
    def modalities(self) -> Mapping[str, int]:
        return {"image": self.tokens.image, "video": self.tokens.video}

    @property
    def written(self) -> tuple[int, ...]:
        return self.tokens.start, self.tokens.image, self.tokens.end

    @cached_property
    def video_budget(self) -> VideoBudget:
        return VideoBudget.of_processor(read_processor(self.folder), str(self.folder))

    @cached_property
    def limits(self) -> PixelLimits:
        return read_limits(self.folder)

    def grid(self, height: int, width: int, limits: PixelLimits) -> Grid:
        return grid_of(height, width, limits)

    def cut(self, image: Image.Image, limits: PixelLimits) -> np.ndarray:
        return to_patches(resized(image, limits))

    def run(self, placeholder: int, grid: Grid) -> list[int]:
        return expand_placeholders([placeholder], [grid], self.tokens)

    def positions(self, token_ids: np.ndarray, grids: Sequence[Grid]) -> np.ndarray:
        return multimodal_positions(token_ids, grids, self.tokens)

    def encode(self, lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        return (lm.encode_pictures(patches, grids),)

    def hidden_states(
        self, lm: PreTrainedModel, embeddings: Tensor, positions: Tensor, places: Tensor, deeper: Sequence[Tensor]
    ) -> Tensor:
        return lm.hidden_states(embeddings, positions)

    def tower_size(self, vision: PreTrainedConfig, text_width: int) -> TowerSize:
        merged, out = vision.spatial_merge_size**2 * vision.hidden_size, vision.out_hidden_size
        if vision.connector == "hierarchical":
            mergers = len(vision.mm_unit_vision_select_layer)
            connector = mergers * (merged**2 + merged * out) + out * text_width
        else:
            connector = merged**2 + merged * text_width
        return TowerSize(
            depth=vision.depth,
            full=len(vision.fullatt_block_indexes),
            width=vision.hidden_size,
            inner=vision.intermediate_size,
            matrices=3 if vision.hidden_act == "silu" else 2,
            window=(vision.window_size // vision.patch_size) ** 2,
            connector=connector,
        )

    def inputs(self, token_ids: Tensor, shown: Sequence[Shown]) -> dict[str, Tensor]:
        import torch

        inputs = {}
        for placeholder, patches, grids in (
            (self.tokens.image, "pixel_values", "image_grid_thw"),
            (self.tokens.video, "pixel_values_videos", "video_grid_thw"),
        ):
            pictures = [picture for token, picture in shown if token == placeholder]
            if pictures:
                pixels = torch.from_numpy(np.concatenate([picture.patches for picture in pictures]))
                inputs[patches] = pixels.to(token_ids.device)
                inputs[grids] = token_ids.new_tensor([picture.grid for picture in pictures])
        return inputs
