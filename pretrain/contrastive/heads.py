"""Features of patches -> **one embedding per picture or region** -> the losses.

The papers name no pooling for the vision-only stage: a picture is the mean of its patches. A region is what a class
query sees of its picture through a mask (RICE, arXiv 2507.20025). Letters: P patches, I pictures, R regions, W width of
the tower, D of the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PictureHead(nn.Module):
    """The mean patch of each picture, projected."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, embedding, bias=False)

    def forward(self, features: Tensor, picture_of_patch: Tensor, pictures: int) -> Tensor:
        """features [P, W], int64 [P] -> [I, D]."""
        sums = features.new_zeros(pictures, features.shape[1]).index_add(0, picture_of_patch, features)
        sizes = torch.bincount(picture_of_patch, minlength=pictures).clamp(min=1)
        return self.projection(sums / sizes.unsqueeze(1))


class RegionHead(nn.Module):
    """A class query for every region attends to the patches inside it."""

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.projection = nn.Linear(width, embedding, bias=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features [P, W], `region_mask` [R, P] -> [R, D]."""
        regions, size = len(mask), features.shape[1] // self.heads
        key, value = self.key_value(self.norm(features)).view(-1, 2, self.heads, size).permute(1, 2, 0, 3)
        query = self.query.view(self.heads, 1, size).expand(-1, regions, -1)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(features.dtype))
        return self.projection(self.output(seen.transpose(0, 1).flatten(1)))
