"""Masks as programs save them: what is inside, and those that say nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_rl.data.benchmarks.masks import mask_of
from tests.unit.data.benchmarks.hub_files import picture, read

INSIDE = np.zeros((32, 64), dtype=bool)
INSIDE[8:24, 16:20] = True


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def transparent_palette() -> Image.Image:
    image = grey(INSIDE).convert("P")
    image.putpalette([255, 0, 0, 255, 0, 0])
    image.info["transparency"] = 0
    return image


def with_alpha(colour: Image.Image, alpha: np.ndarray) -> Image.Image:
    colour.putalpha(grey(alpha))
    return colour


MASKS = {
    "black_and_white": grey(255 * INSIDE),
    "bits": grey(255 * INSIDE).convert("1"),
    "small_labels": grey(3 * INSIDE),
    "labels_of_16_bits": Image.fromarray(7 * INSIDE.astype(np.uint16)),
    "colours": grey(255 * INSIDE).convert("RGB"),
    "white_where_it_is_opaque": with_alpha(Image.new("RGB", (64, 32), "white"), 255 * INSIDE),
    "black_where_it_is_opaque": with_alpha(Image.new("RGB", (64, 32), "black"), 128 * INSIDE),
    "grey_where_it_is_opaque": with_alpha(Image.new("L", (64, 32), 255), 255 * INSIDE),
    "opaque_all_over": with_alpha(grey(255 * INSIDE).convert("RGB"), np.full_like(INSIDE, 255, dtype=np.uint8)),
    "a_transparent_colour": transparent_palette(),
}


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("name", MASKS)
def test_what_is_inside(name: str) -> None:
    stored = Image.open(io.BytesIO(png(MASKS[name])))
    assert np.array_equal(mask_of(stored), INSIDE)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (grey(np.zeros((32, 64))), "its mask holds nothing of the picture"),
        (grey(np.full((32, 64), 255)), "its mask holds all of the picture"),
    ],
)
def test_a_mask_that_says_nothing(tmp_path: Path, mask: Image.Image, reason: str) -> None:
    row = {"user_input": "Point.", "category": "counting", "image": picture()}
    found = read("point_bench", [row | {"mask": png(mask)}, row | {"mask": png(MASKS["labels_of_16_bits"])}], tmp_path)
    assert len(found.prompts) == 1 and reason in found.left_out[0]
    assert sum(found.prompts[0].extra["mask"]["counts"][1::2]) == 64


def test_a_mask_is_one_picture_that_decodes(tmp_path: Path) -> None:
    row = {"user_input": "Point.", "category": "counting", "image": picture()}
    whole = png(MASKS["bits"])
    masks = [[whole[:60]], [whole, png(MASKS["colours"])], [b"none"]]
    found = read("point_bench", [row | {"mask": mask} for mask in masks], tmp_path)
    assert not found.prompts and len(found.left_out) == 3
    for line, reason in zip(found.left_out, ("cannot be decoded", "has 2 masks", "is no PNG"), strict=True):
        assert reason in line
