"""A pack's pictures on the device: records -> **distinct pictures, encoded once** -> their places in the sequence.

A picture that stands at several places of a pack (prompts that share it) goes through the tower once; the gradients of
its places meet at its features. A pack without pictures carries one blank of a small size that stands nowhere, so that
every rank of a multimodal model runs the tower in every pack and the collectives of ZeRO 2 and 3 match.
Letters: P patches, I distinct pictures, K placeholder tokens of the pack, F encoded tokens, E hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.accelerators.transfer import to_device
from pangu_rl.learner.parallel.encoder_parallel import encode_dealt
from pangu_rl.learner.parallel.sequence_parallel import SequenceGroup
from pangu_rl.records import Pack, Picture
from pretrain.families import family_of
from pretrain.families.family import Family
from pretrain.models.vit import VisionModel


@dataclass(frozen=True, slots=True)
class PictureTensors:
    """What the tower reads, and where its features go."""

    patches: Tensor | None
    """uint8 [P, 588] on the device, raw values: the tower normalises, so that a byte travels as a byte. None without
    pictures."""
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
        shown = [picture.patches for picture in distinct.values()]
        return cls(
            patches=to_device(np.concatenate(shown), device) if shown else None,
            grids=torch.tensor([picture.grid for picture in distinct.values()]),
            places=to_device(pack.picture_tokens, device),
            features=to_device(np.concatenate([np.zeros(0, dtype=np.int64), *features]), device),
        )

    def within(self, span: slice) -> PictureTensors:
        """The same pictures, and of their places those among the tokens of `span`, counted from its start."""
        here = (self.places >= span.start) & (self.places < span.stop)
        return replace(self, places=self.places[here] - span.start, features=self.features[here])


def family_of_model(lm: PreTrainedModel) -> Family | None:
    """What is known of the model's pictures; None of a text model."""
    if not hasattr(lm, "pangu_family"):
        lm.pangu_family = family_of(lm.config.to_dict(), Path(lm.name_or_path))
    return lm.pangu_family


def picture_states(
    lm: PreTrainedModel,
    token_ids: Tensor,
    positions: Tensor,
    pictures: PictureTensors,
    sequence: SequenceGroup | None = None,
) -> Tensor:
    """Last hidden states [1, T, E] of `token_ids` [1, T] at `positions`, the pictures' features at their places.

    The ranks of `sequence`, which have the same pictures, deal them out where the tower is ours, and else encode them
    all; each takes the features of its own tokens.
    """
    family, patches, grids = family_of_model(lm), pictures.patches, pictures.grids
    if patches is None:
        patches = token_ids.new_zeros((int(np.prod(family.smallest)), family.columns)).byte()
        grids = torch.tensor([family.smallest])
    if sequence is not None and isinstance(getattr(lm, "visual", None), VisionModel):
        features = (encode_dealt(lm.visual, patches, grids, sequence.group),)
    else:
        features = family.encode(lm, patches, grids)
    embeddings = lm.get_input_embeddings()(token_ids)
    first, *deeper = (own.index_select(0, pictures.features).to(embeddings.dtype) for own in features)
    placed = embeddings.index_copy(1, pictures.places, first.unsqueeze(0))
    return family.hidden_states(lm, placed, positions, pictures.places, deeper)


def own_inputs(lm: PreTrainedModel, pack: Pack, rows: list[np.ndarray], batch: Tensor) -> dict[str, Tensor]:
    """What the model's own forward takes beside the ids `batch` [B, T] of the sequences `rows` (int64 indices into the
    pack)."""
    starts = pack.picture_tokens[np.cumsum([0, *(picture.tokens for picture in pack.pictures)])[:-1]]
    shown = [
        (int(pack.token_ids[first]), picture)
        for tokens in rows
        for picture, first in zip(pack.pictures, starts, strict=True)
        if first in tokens
    ]
    return family_of_model(lm).inputs(batch, shown)


def _identity(picture: Picture) -> tuple[str, tuple[int, int, int]]:
    """One file may be shown at two sizes."""
    return picture.sha256, picture.grid
