"""Positions of text, pictures and videos, and the expansion of placeholders."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pangu_rl.errors import DataError
from pretrain.models.positions import VisionTokens, expand_placeholders, multimodal_positions

TOKENS = VisionTokens(image=90, video=91, start=92, end=93)


def test_one_picture_between_texts() -> None:
    """Two tokens of text, a picture of 2 x 3 tokens at position 2, which spans max(2, 3); then 5 and 6."""
    ids = np.array([5, 92, *[90] * 6, 93, 5])
    time, row, column = multimodal_positions(ids, [(1, 4, 6)], TOKENS)
    assert time.tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 5, 6]
    assert row.tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 5, 6]
    assert column.tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6]
    assert time.max() + 1 - len(ids) == -3
    assert time.dtype == np.int64


def test_a_video_of_three_frames() -> None:
    """Frames of 1 x 2 tokens at 2, 6 and 10: each spans 2, then end and start marks at the next two."""
    ids = np.array([5, 92, 91, 91, 93, 92, 91, 91, 93, 92, 91, 91, 93])
    time, row, column = multimodal_positions(ids, [(3, 2, 4)], TOKENS)
    assert time.tolist() == row.tolist() == [0, 1, 2, 2, 4, 5, 6, 6, 8, 9, 10, 10, 12]
    assert column.tolist() == list(range(13))


def test_two_pictures_and_no_text_at_the_ends() -> None:
    """A picture of 1 x 1 at 0, the end and start marks at 1 and 2, one of 2 x 1 at 3 (it spans 2): the next is 5."""
    positions = multimodal_positions(np.array([90, 93, 92, 90, 90]), [(1, 2, 2), (1, 4, 2)], TOKENS)
    assert positions.tolist() == [[0, 1, 2, 3, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 3]]


def test_text_counts_on_every_axis() -> None:
    assert multimodal_positions(np.array([7, 8, 9]), [], TOKENS).tolist() == [[0, 1, 2]] * 3
    assert multimodal_positions(np.array([], dtype=np.int64), [], TOKENS).shape == (3, 0)


def test_sequential_positions_take_no_notice_of_pictures() -> None:
    tokens = VisionTokens(image=90, video=91, start=92, end=93, sequential=True)
    ids = np.array([92, 90, 90, 93])
    assert multimodal_positions(ids, [(1, 2, 4)], tokens).tolist() == [[0, 1, 2, 3]] * 3
    with pytest.raises(DataError, match="2 placeholder tokens for pictures of 1"):
        multimodal_positions(ids, [(1, 2, 2)], tokens)


def test_expansion_of_a_picture_and_a_video() -> None:
    ids = [5, 92, 90, 93, 92, 91, 93, 6]
    expanded = expand_placeholders(ids, [(1, 4, 2), (2, 2, 2)], TOKENS)
    assert expanded == [5, 92, 90, 90, 93, 92, 91, 93, 92, 91, 93, 6]
    assert expand_placeholders([5, 6], [], TOKENS) == [5, 6]


@pytest.mark.parametrize(("ids", "grids"), [([90, 5], []), ([5], [(1, 2, 2)]), ([90, 90], [(1, 2, 2)])])
def test_expansion_names_both_counts(ids: list[int], grids: list[tuple[int, int, int]]) -> None:
    with pytest.raises(DataError, match=rf"{ids.count(90)} placeholders for {len(grids)} pictures"):
        expand_placeholders(ids, grids, TOKENS)


@pytest.mark.parametrize(
    ("ids", "grids", "message"),
    [
        ([90, 90, 90], [(1, 4, 2)], "3 placeholder tokens for pictures of 2"),
        ([5, 6], [(1, 2, 2)], "0 placeholder tokens for pictures of 1"),
        ([90], [], "1 placeholder tokens for pictures of 0"),
        ([90, 5, 90], [(1, 4, 2)], "2 placeholder tokens from token 0 are not on end"),
        ([90], [(1, 3, 2)], r"grid \(1, 3, 2\)"),
        ([90], [(0, 2, 2), (1, 2, 2)], r"grid \(0, 2, 2\)"),
    ],
)
def test_placeholders_that_are_not_those_of_the_grids(
    ids: list[int], grids: list[tuple[int, int, int]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        multimodal_positions(np.array(ids), grids, TOKENS)


def test_vision_tokens_of_a_configuration_file() -> None:
    ids = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}
    assert VisionTokens.from_config_dict(ids) == TOKENS
    assert VisionTokens.from_config_dict(ids | {"position_scheme": "sequential"}).sequential
    assert VisionTokens.from_config_dict({"model_type": "llama"}) is None


def test_no_torch_is_needed() -> None:
    code = "import sys, pretrain.models.positions; assert not {'torch', 'transformers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
