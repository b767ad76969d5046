"""A pack's pictures on the device: records -> **distinct pictures, encoded once** -> their places in the sequence.

A picture that stands at several places of a pack (prompts that share it) goes through the tower once; the gradients of
its places meet at its features. A pack without pictures carries one blank of the smallest size that stands nowhere, so
that every rank of a multimodal model runs the tower in every pack and the collectives of ZeRO 2 and 3 match.
Letters: P patches, I distinct pictures, K placeholder tokens of the pack, F encoded tokens, E hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.learner.encoder_parallel import SharedPack, encode_dealt
from pangu_rl.learner.sequence_parallel import SequenceGroup
from pangu_rl.records import Pack, Picture

BLANK = Picture(path="", sha256="", grid=(1, 2, 2), patches=np.zeros((4, 588), dtype=np.uint8))
"""One token."""


@dataclass(frozen=True, slots=True)
class PictureTensors:
    """What the tower reads, and where its features go."""

    patches: Tensor
    """uint8 [P, 588] on the device, raw values: the tower normalises, so that a byte travels as a byte."""
    grids: Tensor
    """int64 [I, 3] on the CPU, (t, h, w) in patches."""
    places: Tensor
    """int64 [K], indices of the placeholder tokens."""
    features: Tensor
    """int64 [K], which of the F features stands at each."""

    @classmethod
    def of(cls, pack: Pack, device: torch.device | str) -> PictureTensors:
        """The distinct pictures of `pack`, in the order of their first places."""
        distinct: dict[tuple[str, tuple[int, int, int]], Picture] = {}
        for picture in pack.pictures:
            distinct.setdefault(_identity(picture), picture)
        ends = np.cumsum([0, *(picture.tokens for picture in distinct.values())])
        spans = {key: np.arange(*ends[i : i + 2]) for i, key in enumerate(distinct)}
        features = [spans[_identity(picture)] for picture in pack.pictures]
        shown = list(distinct.values()) or [BLANK]
        return cls(
            patches=torch.from_numpy(np.concatenate([picture.patches for picture in shown])).to(device),
            grids=torch.tensor([picture.grid for picture in shown]),
            places=torch.from_numpy(pack.picture_tokens).to(device),
            features=torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *features])).to(device),
        )

    def within(self, span: slice) -> PictureTensors:
        """The same pictures, and of their places those among the tokens of `span`, counted from its start."""
        here = (self.places >= span.start) & (self.places < span.stop)
        return replace(self, places=self.places[here] - span.start, features=self.features[here])


def is_multimodal(lm: PreTrainedModel) -> bool:
    """Whether the model has a tower beside its language model."""
    return hasattr(lm, "visual")


def embed_pack(
    lm: PreTrainedModel, token_ids: Tensor, pictures: PictureTensors, sequence: SequenceGroup | None = None
) -> Tensor:
    """Embeddings [1, T, E] of `token_ids` [1, T], the pictures' features at their places.

    The ranks of `sequence`, which have the same pictures, deal them out; each takes the features of its own tokens.
    """
    embeddings = lm.get_input_embeddings()(token_ids)
    if sequence is None:
        features = lm.encode_pictures(pictures.patches, pictures.grids)
    else:
        features = encode_dealt(lm.visual, pictures.patches, pictures.grids, SharedPack(group=sequence.group))
    placed = features.index_select(0, pictures.features).to(embeddings.dtype)
    return embeddings.index_copy(1, pictures.places, placed.unsqueeze(0))


def own_inputs(lm: PreTrainedModel, pack: Pack, tokens: np.ndarray, device: torch.device | str) -> dict[str, Tensor]:
    """What the model's own forward takes beside the ids of the sequence `tokens` (int64 indices into the pack): patches
    and grids of its stills and of its videos, told apart by their placeholders."""
    starts = np.cumsum([0, *(picture.tokens for picture in pack.pictures)])[:-1]
    stills, videos = [], []
    for picture, first in zip(pack.pictures, pack.picture_tokens[starts], strict=True):
        if first in tokens:
            (videos if pack.token_ids[first] == lm.config.video_token_id else stills).append(picture)
    inputs = {}
    for pictures, patches, grids in (
        (stills, "pixel_values", "image_grid_thw"),
        (videos, "pixel_values_videos", "video_grid_thw"),
    ):
        if pictures:
            inputs[patches] = torch.from_numpy(np.concatenate([picture.patches for picture in pictures])).to(device)
            inputs[grids] = torch.tensor([picture.grid for picture in pictures])
    return inputs


def _identity(picture: Picture) -> tuple[str, tuple[int, int, int]]:
    """One file may be shown at two sizes."""
    return picture.sha256, picture.grid
