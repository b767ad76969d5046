"""From the tower's features to the language model's width: features -> **2x2 merger(s), projection** -> embeddings.

openPangu-VL merges the features of several blocks and sums them; MindVL and Qwen2.5-VL merge those of the last one.
Letters: P patches, K = P / 4 merged cells, W width of the tower, E width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import silu

from pretrain.models.rms_norm import RMSNorm

if TYPE_CHECKING:
    from pretrain.models.configuration import PanguVisionConfig


class PatchMerger(nn.Module):
    """A norm of each patch, then a two-layer perceptron over the patches of a 2x2 cell side by side."""

    def __init__(self, config: PanguVisionConfig, out_features: int) -> None:
        super().__init__()
        self.width = config.hidden_size * config.spatial_merge_size**2
        self.ln_q = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = nn.Sequential(nn.Linear(self.width, self.width), nn.GELU(), nn.Linear(self.width, out_features))

    def forward(self, features: Tensor) -> Tensor:
        """[P, W] with the patches of a cell side by side -> [K, out_features]."""
        cells = features.numel() // self.width
        return self.mlp(self.ln_q(features).reshape(cells, self.width))


class HierarchicalMerger(nn.ModuleList):
    """One merger for each selected block, the first for the deepest; their sum."""

    def __init__(self, config: PanguVisionConfig) -> None:
        count = len(config.mm_unit_vision_select_layer)
        super().__init__(PatchMerger(config, config.out_hidden_size) for _ in range(count))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """One [P, W] for each selected block, the deepest first -> [K, out_hidden_size]."""
        merged = [merger(feature) for merger, feature in zip(self, features, strict=True)]
        return sum(merged[1:], start=merged[0])


class VisionProjection(nn.Module):
    """The activation comes before the only linear layer."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, out_features)

    def forward(self, merged: Tensor) -> Tensor:
        """[K, in_features] -> [K, E]."""
        return self.fc1(silu(merged))
