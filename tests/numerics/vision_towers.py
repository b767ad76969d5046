"""Small vision towers and random pictures, with transformers' Qwen2.5-VL tower of the same weights beside ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from pretrain.models.configuration import PanguVisionConfig
from pretrain.models.vit import VisionModel

SIZES = {
    "depth": 4,
    "hidden_size": 64,
    "num_heads": 4,
    "intermediate_size": 96,
    "out_hidden_size": 48,
    "fullatt_block_indexes": [1, 3],
}
GRIDS = [(1, 8, 8), (1, 12, 20), (3, 6, 10), (1, 2, 2), (1, 34, 18)]
"""One window; windows cut at two edges; a video; a single cell; a picture of several rows of windows."""


def tower(text_hidden_size: int = 40, seed: int = 0, **changes: Any) -> VisionModel:
    """openPangu-ViT with hierarchical connector in small, weights far from their initial ones."""
    torch.manual_seed(seed)
    model = VisionModel(PanguVisionConfig(**SIZES | changes), text_hidden_size)
    _draw(model)
    return model


def qwen_pair(seed: int = 0) -> tuple[VisionModel, Qwen2_5_VisionTransformerPretrainedModel]:
    """Ours set up as Qwen2.5-VL's tower, and transformers' own, with the same weights."""
    theirs = Qwen2_5_VisionTransformerPretrainedModel._from_config(Qwen2_5_VLVisionConfig(**SIZES, hidden_act="silu"))
    torch.manual_seed(seed)
    _draw(theirs)
    alike = {"hidden_act": "silu", "connector": "mlp", "final_layernorm": False, "mm_unit_vision_select_layer": [-1]}
    ours = tower(SIZES["out_hidden_size"], **alike)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def pictures(grids: list[tuple[int, int, int]], seed: int = 0) -> tuple[Tensor, Tensor]:
    """uint8 [P, 588] patches at random, and the grids [I, 3]."""
    generator = torch.Generator().manual_seed(seed)
    patches = sum(frames * rows * columns for frames, rows, columns in grids)
    pixels = torch.randint(0, 256, (patches, 588), dtype=torch.uint8, generator=generator)
    return pixels, torch.tensor(grids, dtype=torch.int64).reshape(-1, 3)


def normalised_twice(pixels: Tensor) -> Tensor:
    """What Qwen2.5-VL's processor hands over: float32 [P, 1176], each frame normalised and doubled; CLIP's figures."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1)
    frame = (pixels.view(-1, 3, 196) / 255 - mean) / std
    return torch.stack([frame, frame], dim=2).flatten(1)


def _draw(model: nn.Module) -> None:
    for parameter in model.parameters():
        spread = 0.2 if parameter.ndim > 1 else 0.1
        nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, spread)
