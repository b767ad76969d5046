"""A small PanguVL and groups with pictures, whose every number a test can work out again."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from pangu_rl.records import Group, Pack, Picture
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from pretrain.models.positions import multimodal_positions
from tests.unit.data.groups import make_group, pack_groups
from tests.unit.pretrain.models.tiny import END, IMAGE, LLAMA, START, TOKENS, VIDEO, config

PLACEHOLDERS = frozenset({IMAGE, VIDEO})
FIRST_TEXT, LAST_TEXT = 3, 89


def pangu_vl(*, tied: bool = True) -> PreTrainedModel:
    """Two text layers of 64 and four tower blocks of 32, full attention in two, random weights of deviation 0.1."""
    torch.manual_seed(0)
    return PanguVLForConditionalGeneration(config(text=LLAMA | {"max_position_embeddings": 1024}, tied=tied)).eval()


def save_pangu_vl(directory: Path, *, dtype: torch.dtype = torch.float32, tied: bool = True) -> Path:
    pangu_vl(tied=tied).to(dtype).save_pretrained(directory)
    return directory


def picture(name: str, height: int, width: int) -> Picture:
    """Random pixels of `height` x `width` merged cells (28 pixels each); the name seeds them."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    patches = rng.integers(0, 256, (4 * height * width, 588), dtype=np.uint8)
    return Picture(path=f"{name}.png", sha256=name, grid=(1, 2 * height, 2 * width), patches=patches)


def group(
    name: str, pictures: Sequence[Picture], lengths: Sequence[int], *, text: int = 4, advantages: Sequence[float] = ()
) -> Group:
    """A prompt of some text, every picture between its marks, some text; completions of random tokens."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def draw(count: int) -> list[int]:
        return rng.integers(FIRST_TEXT, LAST_TEXT, count).tolist()

    prompt = draw(text)
    for shown in pictures:
        prompt += [START, *[IMAGE] * shown.tokens, END]
    prompt += draw(3)
    drawn = make_group(name, 1, lengths, advantages or rng.normal(size=len(lengths)).tolist())
    drawn.prompt_token_ids = tuple(prompt)
    drawn.prompt_positions = multimodal_positions(np.array(prompt), [shown.grid for shown in pictures], TOKENS)
    drawn.pictures = tuple(pictures)
    drawn.completions = [
        replace(completion, token_ids=tuple(draw(length)), logprobs=tuple(rng.normal(-4.6, 0.3, length).tolist()))
        for completion, length in zip(drawn.completions, lengths, strict=True)
    ]
    return drawn


def packed(groups: Sequence[Group], pack_tokens: int = 10_000) -> list[Pack]:
    return pack_groups(groups, pack_tokens, PLACEHOLDERS)
