"""What both sides of a comparison are given: **fixed tokens and, of a model with a tower, a picture among them**."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from pangu_rl.learner.precision.trace import fixed_tokens
from pangu_rl.records import Pack, Picture
from pretrain.families.family import Family

HEIGHT, WIDTH = 168, 224
"""Pixels of the picture before the model's own sizes: several windows of a tower that has some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSequence:
    token_ids: np.ndarray
    """int64 [T]"""
    positions: np.ndarray
    """int64 [T], or [3, T]"""
    pictures: tuple[Picture, ...] = ()
    placeholders: frozenset[int] = frozenset()

    @property
    def pack(self) -> Pack:
        """One sequence, all of whose tokens but the first are targets."""
        ids, places = self.token_ids, np.arange(len(self.token_ids), dtype=np.int64)
        return Pack(
            token_ids=ids,
            position_ids=self.positions,
            segment_starts=np.array([0, len(ids)], dtype=np.int64),
            segment_parents=np.array([-1], dtype=np.int64),
            targets=places[1:],
            predictors=places[:-1],
            sequence_ids=np.zeros(len(ids) - 1, dtype=np.int64),
            pictures=self.pictures,
            picture_tokens=np.flatnonzero(np.isin(ids, list(self.placeholders))),
        )


def fixed_sequence(vocabulary: int, tokens: int, family: Family | None) -> FixedSequence:
    """`tokens` words, of the first `vocabulary`, and in their middle a picture where there is a `family`.

    Raises:
        ConfigError: the model's folder does not say how pictures are shown.
    """
    words = fixed_tokens(vocabulary, tokens).numpy()
    if family is None:
        return FixedSequence(token_ids=words, positions=np.arange(tokens, dtype=np.int64))
    image = Image.fromarray(fixed_pixels(HEIGHT, WIDTH))
    grid = family.grid(HEIGHT, WIDTH, family.limits)
    picture = family.picture(family.cut(image, family.limits), grid, sha256="fixed")
    middle = tokens // 2
    ids, _ = family.expanded([*words[:middle].tolist(), *family.written, *words[middle:].tolist()], [grid])
    positions = family.positions(ids, [grid])
    return FixedSequence(
        token_ids=ids,
        positions=np.arange(len(ids), dtype=np.int64) if positions is None else positions,
        pictures=(picture,),
        placeholders=family.placeholders,
    )


def fixed_pixels(height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] without a pattern, the same everywhere."""
    places = torch.arange(height * width * 3, dtype=torch.int64)
    return ((places * 2_654_435_761 % 2**32) >> 16).to(torch.uint8).reshape(height, width, 3).numpy()
