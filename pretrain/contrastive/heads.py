"""Features of patches -> **one embedding per picture or region** -> the losses.

The papers name no pooling for the vision-only stage: a picture is the mean of its patches. A region is what a class
query sees of its picture through a mask (RICE, arXiv 2507.20025). Letters: P patches, I pictures, J of them with
regions, R regions of one, S of all, W width of the tower, D of the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrain.contrastive.regions import RegionPatches


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
    """A class query for every region attends to the patches inside it: scores are of a picture's own patches alone."""

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.projection = nn.Linear(width, embedding, bias=False)

    def forward(self, features: Tensor, regions: RegionPatches) -> Tensor:
        """features [P, W] of all pictures -> [S, D]."""
        if not len(regions.slots):
            return features.new_zeros(0, self.projection.out_features)
        pictures, most, longest = regions.seen.shape
        size = features.shape[1] // self.heads
        own = self.key_value(self.norm(features[regions.patches]))
        key, value = own.view(pictures, longest, 2, self.heads, size).permute(2, 0, 3, 1, 4)
        query = self.query.view(1, self.heads, 1, size).expand(pictures, -1, most, -1)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=regions.seen.unsqueeze(1))
        return self.projection(self.output(seen.transpose(1, 2).reshape(-1, features.shape[1])[regions.slots]))
