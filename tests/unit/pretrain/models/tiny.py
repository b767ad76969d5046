"""A small openPangu-VL in float32 and prompts with pictures, for the tests of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.models.configuration import PanguVLConfig
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from pretrain.models.positions import Grid, VisionTokens, expand_placeholders

IMAGE, VIDEO, START, END, PAD = 90, 91, 92, 93, 0
TOKENS = VisionTokens(image=IMAGE, video=VIDEO, start=START, end=END)
IDS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END}
VISION = {
    "depth": 4,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": 40,
    "fullatt_block_indexes": [1, 3],
    "initializer_range": 0.1,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "attention_bias": True,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": PAD,
}


def config(*, text: dict[str, Any] | None = None, tied: bool = False, **fields: Any) -> PanguVLConfig:
    return PanguVLConfig(text_config=text or LLAMA, vision_config=VISION, tie_word_embeddings=tied, **(IDS | fields))


def model(settings: PanguVLConfig | None = None, *, seed: int = 0) -> PanguVLForConditionalGeneration:
    """Random weights of deviation 0.1, biases and norms too, so that none can be left out unseen."""
    torch.manual_seed(seed)
    built = PanguVLForConditionalGeneration(settings or config()).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def prompt(*parts: int | Grid, video: bool = False, seed: int = 0) -> tuple[list[int], list[Grid]]:
    """Ids and grids of a prompt: a number is so many text tokens, a grid (patches) a picture between its marks."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids += rng.integers(3, 90, part).tolist()
        else:
            ids += [START, VIDEO if video else IMAGE, END]
    grids = [part for part in parts if not isinstance(part, int)]
    return expand_placeholders(ids, grids, TOKENS), grids


def pictures(grids: Sequence[Grid], *, video: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of the model: random uint8 patches [P, 588] and grids [I, 3]."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (sum(t * h * w for t, h, w in grids), 588), dtype=np.uint8)
    names = ("pixel_values_videos", "video_grid_thw") if video else ("pixel_values", "image_grid_thw")
    return dict(zip(names, (torch.from_numpy(patches), torch.tensor(grids)), strict=True))
