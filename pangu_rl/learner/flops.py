"""Floating-point operations that training on a pack takes by its model's shape -> **TFLOP/s and MFU**.

What the mathematics asks for, not what is computed: attention counts the pairs that attend, recomputation counts
nothing. A multiplication with its addition is two. Letters: T tokens, M targets, P patches.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from pangu_rl.config.learner import ModelPart
from pangu_rl.records import Pack

FORWARD, THROUGH, WHOLE = 1, 2, 3
"""Forward alone; with the gradient of the inputs; with that of the weights too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlops:
    """Forward FLOPs of a model's parts."""

    per_token: float
    """All layers of the language model, without attention's pairs and without the head."""
    per_pair: float
    """A token that attends to a token, all layers."""
    per_target: float
    """The output head."""
    per_patch: float = 0.0
    """The tower without its connector."""
    per_patch_pair: float = 0.0
    """Two patches of one frame, in the blocks with full attention."""
    connector_per_patch: float = 0.0

    @classmethod
    def of(cls, config: Any) -> ModelFlops:
        """From a model's configuration as transformers loads it."""
        text = config.get_text_config()
        width, heads = text.hidden_size, text.num_attention_heads
        keys = getattr(text, "num_key_value_heads", None) or heads
        size = getattr(text, "head_dim", None) or width // heads
        layer = 2 * width * size * (2 * heads + 2 * keys) + 6 * width * text.intermediate_size
        vision = getattr(config, "vision_config", None)
        return cls(
            per_token=text.num_hidden_layers * layer,
            per_pair=text.num_hidden_layers * 4 * heads * size,
            per_target=2 * width * text.vocab_size,
            **(_tower(vision, width) if vision is not None else {}),
        )

    def of_training(self, pack: Pack, trained: Collection[ModelPart]) -> float:
        """Forward and backward passes of a pack; what is frozen is passed through, or not entered at all."""
        lengths = np.diff(pack.segment_starts).astype(np.float64)
        behind = sum(_ancestors(pack, segment) * lengths[segment] for segment in range(len(lengths)))
        pairs = float((lengths * (lengths + 1) / 2).sum() + behind)
        language = pack.num_tokens * self.per_token + pairs * self.per_pair + len(pack.targets) * self.per_target
        grids = {(picture.sha256, picture.grid) for picture in pack.pictures}
        frames = [(rows * columns, count) for _, (count, rows, columns) in grids]
        patches = float(sum(size * count for size, count in frames))
        squares = float(sum(size**2 * count for size, count in frames))
        tower = patches * self.per_patch + squares * self.per_patch_pair
        connector = patches * self.connector_per_patch
        if not self.per_patch:
            return WHOLE * language
        factors = (
            WHOLE if "language" in trained else THROUGH,
            WHOLE if "encoder" in trained else FORWARD,
            WHOLE if "connector" in trained else THROUGH if "encoder" in trained else FORWARD,
        )
        return sum(factor * part for factor, part in zip(factors, (language, tower, connector), strict=True))


def _tower(vision: Any, text_width: int) -> dict[str, float]:
    width, full, cell = vision.hidden_size, len(vision.fullatt_block_indexes), vision.spatial_merge_size**2
    matrices = 3 if vision.hidden_act == "silu" else 2
    block = 2 * (4 * width**2 + matrices * width * vision.intermediate_size)
    window = 4 * (vision.window_size // vision.patch_size) ** 2 * width
    merged, out = cell * width, vision.out_hidden_size
    if vision.connector == "hierarchical":
        merger = len(vision.mm_unit_vision_select_layer) * (merged**2 + merged * out) + out * text_width
    else:
        merger = merged**2 + merged * text_width
    return {
        "per_patch": vision.depth * block + (vision.depth - full) * window,
        "per_patch_pair": full * 4 * width,
        "connector_per_patch": 2 * merger / cell,
    }


def _ancestors(pack: Pack, segment: int) -> float:
    """Tokens that a segment attends to beside its own."""
    total, parent = 0.0, int(pack.segment_parents[segment])
    while parent >= 0:
        total += float(pack.segment_starts[parent + 1] - pack.segment_starts[parent])
        parent = int(pack.segment_parents[parent])
    return total
