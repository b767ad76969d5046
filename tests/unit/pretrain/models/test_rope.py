"""Axis maps, default sections and the rotary embedding that takes three rows of positions."""

from __future__ import annotations

import math

import pytest
import torch

from pangu_rl.errors import ConfigError
from pretrain.models.rope import MultimodalRope, chunked_axes, default_sections, interleaved_axes


def test_the_released_axis_map() -> None:
    assert interleaved_axes([10, 27, 27]) == [0, 1, 2, 1, 2, 1, 2] * 9 + [0]


@pytest.mark.parametrize(
    ("sections", "axes"), [([2, 3, 3], [0, 1, 2, 1, 2, 1, 2, 0]), ([2, 7, 7], [0, *[1, 2] * 7, 0])]
)
def test_small_axis_maps(sections: list[int], axes: list[int]) -> None:
    assert interleaved_axes(sections) == axes


def test_chunked_axes() -> None:
    assert chunked_axes([2, 3, 3]) == [0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("head_size", [8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256])
@pytest.mark.parametrize("interleaved", [True, False])
def test_default_sections_fill_any_head(head_size: int, interleaved: bool) -> None:
    time, rows, columns = default_sections(head_size // 2, interleaved=interleaved)
    assert time >= 1
    assert rows == columns >= 1
    assert time + rows + columns == head_size // 2
    share = (10 if interleaved else 16) / 64
    assert abs(time - share * head_size / 2) <= 2


def test_default_sections_of_the_released_heads() -> None:
    assert default_sections(64, interleaved=True) == [10, 27, 27]
    assert default_sections(64, interleaved=False) == [16, 24, 24]


def test_each_channel_turns_by_its_axis() -> None:
    """Heads of 8: axes t h w t with sections [2, 1, 1], frequencies 100^(-k/4) = 1, 0.316, 0.1, 0.0316."""
    rope = MultimodalRope({"mrope_section": [2, 1, 1], "mrope_interleaved": True, "rope_theta": 100.0}, 8)
    positions = torch.tensor([[[2, 3]], [[5, 7]], [[11, 13]]])
    cos, sin = rope(torch.zeros(1, 2, 8), positions)
    angles = [5 if axis == "h" else 11 if axis == "w" else 2 for axis in "thwt"]
    angles = [angle * 100 ** (-k / 4) for k, angle in enumerate(angles)]
    assert cos[0, 0].tolist() == pytest.approx([math.cos(angle) for angle in angles] * 2, abs=1e-6)
    assert sin[0, 0].tolist() == pytest.approx([math.sin(angle) for angle in angles] * 2, abs=1e-6)
    assert cos.shape == (1, 2, 8)


def test_positions_given_from_outside_win_only_within() -> None:
    rope = MultimodalRope({"mrope_section": [2, 3, 3], "rope_theta": 1e4}, 16)
    x, plain = torch.zeros(1, 3, 16), torch.arange(3).unsqueeze(0)
    far = torch.full((3, 1, 3), 77)
    before = rope(x, plain)[0]
    with rope.at(far):
        assert torch.equal(rope(x, plain)[0], rope(x, far)[0])
    assert torch.equal(rope(x, plain)[0], before)
    with rope.at(None):
        assert torch.equal(rope(x, plain)[0], before)


def test_angles_are_float32_in_a_bfloat16_model() -> None:
    """Position 12345 has 14 bits, bfloat16 8: angles in bfloat16 would be off by up to 32."""
    rope = MultimodalRope({"mrope_section": [2, 3, 3], "rope_theta": 1e4}, 16).to(torch.bfloat16)
    cos, _ = rope(torch.zeros(1, 1, 16, dtype=torch.bfloat16), torch.tensor([[12345]]))
    assert cos.dtype == torch.bfloat16
    assert cos[0, 0, 0].item() == pytest.approx(math.cos(12345), abs=4e-3)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"mrope_section": [2, 3, 4]}, r"\[2, 3, 4\] adds up to 9: heads of 16 have 8"),
        ({"mrope_section": [2, 3, 3], "rope_type": "yarn"}, "'yarn'"),
    ],
)
def test_what_cannot_have_three_axes(rope: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultimodalRope(rope | {"rope_theta": 1e4}, 16)
