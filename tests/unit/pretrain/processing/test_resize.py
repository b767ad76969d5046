"""Sizes worked by hand, the promises for any size, and transformers' own arithmetic."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as qwen_resize

from pangu_rl.errors import ConfigError, DataError
from pretrain.processing.resize import TRAINING, PixelLimits, grid_of, read_limits, smart_resize

RELEASED = PixelLimits(224**2, 1820**2)
"""What the released processor does at inference."""
EVALUATION = tuple(PixelLimits(edge**2, 2016**2) for edge in (224, 672, 1344))
"""The three settings of the paper's evaluations."""


@pytest.mark.parametrize(
    ("edge", "limits", "tokens"),
    [
        (56, TRAINING, 4),
        (224, TRAINING, 64),
        (672, TRAINING, 576),
        (1344, TRAINING, 2304),
        (2016, TRAINING, 2304),
        (2016, EVALUATION[0], 5184),
        (1820, RELEASED, 4225),
        (56, RELEASED, 64),
        (56, EVALUATION[2], 2304),
    ],
)
def test_squares_have_the_papers_token_counts(edge: int, limits: PixelLimits, tokens: int) -> None:
    t, h, w = grid_of(edge, edge, limits)
    assert (t, h * w // 4) == (1, tokens)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (600, 1000, (588, 1008)),  # 21.43 and 35.71 tokens round to 21 and 36
        (3000, 4000, (1148, 1540)),  # sqrt(12e6 / 1344^2) = 2.5775: 1163.9 and 1551.9 pixels, 41.6 and 55.4 tokens
        (30, 40, (56, 84)),  # 28 x 28 is too small; sqrt(3136 / 1200) = 1.617: 48.5 and 64.7 pixels, rounded up
        (1, 1, (56, 56)),
        (28, 28, (56, 56)),
        (20, 25, (56, 56)),  # enlarged to 56 x 70; 2.5 tokens round to the even 2
        (1, 200, (56, 11200)),  # enlarged 56 times; 627,200 pixels are within the limits
        (28, 2800, (56, 5600)),
    ],
)
def test_shapes_worked_by_hand(height: int, width: int, expected: tuple[int, int]) -> None:
    assert smart_resize(height, width, TRAINING) == expected
    assert smart_resize(width, height, TRAINING) == expected[::-1]


@pytest.mark.parametrize(("height", "width", "aspect"), [(1, 201, "201.0"), (6000, 29, "206.9"), (0, 10, "10.0")])
def test_thin_pictures_are_refused_with_both_values(height: int, width: int, aspect: str) -> None:
    with pytest.raises(DataError, match=rf"{width} x {height} pixels: the aspect ratio {aspect} is over .* 200"):
        smart_resize(height, width, TRAINING)


sides = st.integers(1, 6000)
roomy = st.integers(784, 400_000).map(lambda least: PixelLimits(least, 2 * least + 400_000))
"""So far apart that both can be kept at any aspect ratio of up to 200: floor and ceil move an area of A pixels by less
than 28 (h + w) + 784, where h + w <= 14.3 sqrt(A)."""


@given(sides, sides, roomy)
def test_any_picture_fits_the_limits_in_whole_tokens_and_keeps_its_shape(
    height: int, width: int, limits: PixelLimits
) -> None:
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(DataError):
            smart_resize(height, width, limits)
        return
    h, w = smart_resize(height, width, limits)
    assert h % 28 == 0 and w % 28 == 0
    assert limits.min_pixels <= h * w <= limits.max_pixels
    # One scale explains both sides to within a token (and a pixel of the first enlargement's rounding).
    assert max((h - 29) / height, (w - 29) / width) <= min((h + 29) / height, (w + 29) / width)


@given(sides, sides, st.integers(784, 10**6), st.integers(0, 10**6))
def test_the_greatest_area_is_never_passed_however_tight_the_limits(
    height: int, width: int, least: int, more: int
) -> None:
    if max(height, width) <= 200 * min(height, width):
        h, w = smart_resize(height, width, PixelLimits(least, least + more))
        assert h % 28 == 0 and w % 28 == 0 and 28 * 28 <= h * w <= least + more


def test_equals_transformers_where_the_small_picture_rule_is_silent() -> None:
    draw = random.Random(0)
    for _ in range(3000):
        height, width = draw.randint(29, 5000), draw.randint(29, 5000)
        for limits in (TRAINING, RELEASED, *EVALUATION):
            expected = qwen_resize(height, width, 28, limits.min_pixels, limits.max_pixels)
            assert smart_resize(height, width, limits) == expected


@pytest.mark.parametrize(("least", "greatest"), [(783, 10_000), (5000, 4000), (-1, 10)])
def test_limits_that_are_none_are_refused(least: int, greatest: int) -> None:
    with pytest.raises(ConfigError, match=f"min_pixels {least} and max_pixels {greatest}"):
        PixelLimits(least, greatest)


@pytest.mark.parametrize(
    "files",
    [
        {"preprocessor_config.json": {"min_pixels": 3136, "max_pixels": 50176, "patch_size": 14}},
        {"preprocessor_config.json": {"size": {"shortest_edge": 3136, "longest_edge": 50176}}},
        {"processor_config.json": {"image_processor": {"min_pixels": 3136, "max_pixels": 50176}}},
        {
            "processor_config.json": {"image_processor": {"min_pixels": 3136, "max_pixels": 50176}},
            "preprocessor_config.json": {"min_pixels": 784, "max_pixels": 784},
        },
        {
            "processor_config.json": {"processor_class": "PanguVLProcessor"},
            "preprocessor_config.json": {"min_pixels": 3136, "max_pixels": 50176},
        },
        {"processor_config.json": {"min_pixels": 3136, "max_pixels": 50176}},
    ],
)
def test_limits_are_read_where_transformers_reads_them(tmp_path: Path, files: dict[str, dict]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert read_limits(tmp_path) == PixelLimits(3136, 50176)


@pytest.mark.parametrize("content", [None, "{}", "[1]", "{", '{"min_pixels": 784}', '{"size": 224}'])
def test_a_model_folder_without_limits_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(ConfigError, match=str(tmp_path)) as caught:
        read_limits(tmp_path)
    assert "\n" not in str(caught.value)
