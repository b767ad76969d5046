"""What the rest asks of a kind of vision-language model, one file each: sizes, ids, positions, tower, names.

rows -> *sizes, ids, positions* -> packs -> *tower and language model* -> log-probs; -> *names* -> engine. Nothing here
imports torch or transformers: what computes does so with the tensors and the model that it is given.
Letters: T tokens, P patches, I pictures, F features (one for each token of a picture), E hidden size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pangu_rl.config.sections.learner import ModelPart
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Picture
from pretrain.models.positions import Grid
from pretrain.processing.resize import PixelLimits, read_processor
from pretrain.processing.video import VideoBudget

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

BICUBIC = 3
"""Pillow's number of it."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Shown = tuple[int, Picture]
"""A picture and the placeholder id that it stands at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerSize:
    """What a forward pass of a tower with its connector takes."""

    depth: int
    full: int
    """Blocks in which a patch attends to all of its frame."""
    width: int
    inner: int
    matrices: int
    """Of a block's perceptron."""
    window: int = 0
    """Patches that one attends to in the other blocks."""
    connector: int
    """Parameters of the connector's matrices, all of which the patches of a token go through together."""


class Family(ABC):
    """One model of a family: what its folder says, and what follows from it."""

    model_types: ClassVar[tuple[str, ...]]
    """Of `config.json`."""
    served: ClassVar[Mapping[str, str | None]] = {}
    """Architecture of `config.json` -> vLLM's of its language model, None where transformers' own name of that says it;
    empty where we have a class of our own."""
    encoder: ClassVar[tuple[str, ...]]
    """How the names of the tower's parameters begin, in the learner."""
    connector: ClassVar[tuple[str, ...]]
    """How those of the connector begin; what begins with neither is the language model's."""
    renamed: ClassVar[Mapping[str, str]]
    """How names of checkpoints begin, older and newer ones -> how the learner's do; of several that fit, the first."""
    axes: ClassVar[tuple[int, ...]] = (3,)
    """Rows of positions; () where tokens just count."""
    deeper_layers: int = 0
    """Layers behind which `encode` has features to add."""
    attention: ClassVar[str] = "sdpa"
    """transformers' name of the tower's attention while the language model's is the packed one."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self.config = config
        self.folder = folder

    @classmethod
    def sees(cls, config: Mapping[str, Any]) -> bool:
        """Whether a model of this configuration has a tower and tokens for pictures."""
        return config.get("image_token_id") is not None

    @property
    @abstractmethod
    def modalities(self) -> Mapping[str, int]:
        """`image`, and `video` where there are any -> the id of the tokens that their features stand at."""

    @property
    def placeholders(self) -> frozenset[int]:
        """Ids of the tokens that features stand at."""
        return frozenset(self.modalities.values())

    @property
    @abstractmethod
    def written(self) -> tuple[int, ...]:
        """Ids of one still picture in running text: its placeholder, once, between its marks."""

    @property
    def video_budget(self) -> VideoBudget | None:
        """Of a sample's frames; None of a family whose videos are not known here.

        Raises:
            ConfigError: the folder's processor gives numbers that are none.
        """
        return None

    @property
    @abstractmethod
    def merge(self) -> int:
        """Patches of a token along each side."""

    @property
    @abstractmethod
    def columns(self) -> int:
        """Numbers of a patch, uint8: three channels of its pixels."""

    @property
    @abstractmethod
    def limits(self) -> PixelLimits:
        """What the folder's processor says of sizes; read when a picture is.

        Raises:
            ConfigError: it says nothing, or wants what is not done here.
        """

    @abstractmethod
    def grid(self, height: int, width: int, limits: PixelLimits) -> Grid:
        """(t, h, w) in patches of a still picture of this size in pixels.

        Raises:
            DataError: it has no shape that the model takes.
        """

    @abstractmethod
    def cut(self, image: Image.Image, limits: PixelLimits) -> np.ndarray:
        """Patches uint8 [P, columns] of an RGB picture, in the order in which the tower reads them; raises as
        `grid`."""

    def run(self, placeholder: int, grid: Grid) -> list[int]:
        """Ids that one placeholder becomes for a picture of `grid`."""
        return [placeholder] * (int(np.prod(grid)) // self.merge**2)

    def expanded(self, token_ids: Sequence[int], grids: Sequence[Grid]) -> tuple[np.ndarray, np.ndarray]:
        """(ids int64 [T] with each placeholder expanded for its picture, how many each id became).

        Raises:
            DataError: another number of placeholders than of grids.
        """
        places = self.placeholders
        if (found := sum(token in places for token in token_ids)) != len(grids):
            raise DataError(f"{found} placeholders for {len(grids)} pictures: give each picture one")
        remaining = iter(grids)
        runs = [self.run(token, next(remaining)) if token in places else [token] for token in token_ids]
        return np.fromiter(chain(*runs), np.int64), np.fromiter(map(len, runs), np.int64)

    def positions(self, token_ids: np.ndarray, grids: Sequence[Grid]) -> np.ndarray | None:
        """int64 [3, T] (time, row, column) of one sequence with the still pictures of `grids`, or None where tokens
        just count.

        Raises:
            DataError: the placeholders are not those of the grids.
        """
        return None

    def longest(self, limits: PixelLimits) -> Grid:
        """Of the largest still picture, whatever its shape."""
        side = self.merge * math.isqrt(self.columns // 3)
        return 1, self.merge, self.merge * (limits.max_pixels // side**2)

    @property
    def smallest(self) -> Grid:
        """Of a picture of few tokens, two where the family has them: for packs without one, and for the check."""
        return 1, self.merge, 2 * self.merge

    def picture(self, patches: np.ndarray, grid: Grid, path: str = "", sha256: str = "") -> Picture:
        """The record of a picture that was cut."""
        return Picture(path=path, sha256=sha256, grid=grid, patches=patches, merge=self.merge)

    def prepare(self, lm: PreTrainedModel) -> None:
        """Replace what of the tower has a faster way: once, behind loading."""
        return

    @abstractmethod
    def encode(self, lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        """Features [F, E] of all pictures end to end, of uint8 patches [P, columns] and grids int64 [I, 3] on the CPU;
        then those that are added to deeper layers, in the layers' order."""

    @abstractmethod
    def hidden_states(
        self, lm: PreTrainedModel, embeddings: Tensor, positions: Tensor, places: Tensor, deeper: Sequence[Tensor]
    ) -> Tensor:
        """The language model's last hidden states [1, T, E] of embeddings [1, T, E], features in their `places` (int64,
        ascending); `deeper` [F, E] each belong to deeper layers at the same places. Without a cache."""

    @abstractmethod
    def inputs(self, token_ids: Tensor, shown: Sequence[Shown]) -> dict[str, Tensor]:
        """What the model's own forward takes beside ids [B, T], whose pictures are `shown` in order."""

    @abstractmethod
    def tower_size(self, vision: PreTrainedConfig, text_width: int) -> TowerSize:
        """Of a model with this `vision_config` before a language model of `text_width`."""

    def part(self, name: str) -> ModelPart:
        """The part that a parameter of the learner's model belongs to."""
        if name.startswith(self.encoder):
            return "encoder"
        return "connector" if name.startswith(self.connector) else "language"

    def learned_name(self, name: str) -> str:
        """A tensor's name in any checkpoint of the family -> the one that the learner's model has."""
        old = next((prefix for prefix in self.renamed if name.startswith(prefix)), "")
        return self.renamed.get(old, "") + name.removeprefix(old)

    @property
    def text_model(self) -> str | None:
        """As `served` has it."""
        return self.served[self.config["architectures"][0]]

    def read_processor(self) -> dict[str, Any]:
        """What the folder says of its image processor.

        Raises:
            ConfigError: nothing, or a file that cannot be read.
        """
        found = read_processor(self.folder)
        if not found:
            raise ConfigError(f"{self.folder}: has no preprocessor_config.json, which says how pictures are shown")
        return found

    def refuse(self, what: str) -> ConfigError:
        return ConfigError(f"model.path {self.folder}: {what}")


def fixed(name: str, found: Any, expected: Any, family: Family) -> None:
    """
    Raises:
        ConfigError: the folder says something else than the one thing that is done here.
    """
    if found is not None and found != expected:
        raise family.refuse(
            f"{name} is {found!r}, and pictures of {family.config['model_type']} are shown with {expected!r}"
        )


def normalised(patches: Tensor, processor: Mapping[str, Any]) -> Tensor:
    """Bytes [P, 3 n] of three channels -> float32 [P, 3, n], rescaled and normalised as `processor` says."""
    import torch

    mean, std = (
        torch.tensor(processor.get(name) or default, device=patches.device).unsqueeze(-1)
        for name, default in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD))
    )
    return (patches.float().unflatten(1, (3, -1)) * processor.get("rescale_factor", 1 / 255) - mean) / std
