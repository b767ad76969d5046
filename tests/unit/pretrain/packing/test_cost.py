"""What a picture or video costs, by hand and against the scalar rule that the loader obeys."""

from __future__ import annotations

import numpy as np
import pytest

from pretrain.packing.cost import OPENPANGU_VIT, sampled_frames, tokens_of_frame, tokens_of_video_frame
from pretrain.processing.resize import PixelLimits, smart_resize
from pretrain.processing.video import Sampling, VideoBudget, frame_indices

RELEASED = {"total": 11_239_424, "least": 100_352, "most": 200_704}
TRAINING = (56**2, 1344**2)


def tokens(height: int, width: int, limits: tuple[int, int] = TRAINING) -> int:
    return int(tokens_of_frame(np.array([height]), np.array([width]), *limits)[0])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (56, 56, 4),
        (224, 224, 64),
        (672, 672, 576),
        (1344, 1344, 2304),
        (480, 640, 17 * 23),  # 480 / 28 = 17.1, 640 / 28 = 22.9
        (2016, 2016, 2304),  # scaled by 2/3
        (42, 70, 2 * 2),  # 1.5 and 2.5 tokens: halves go to the even number
        (10, 100, 2 * 20),  # enlarged to 56 x 560 first
        (28, 28, 4),
    ],
)
def test_tokens_by_hand(height, width, expected):
    assert tokens(height, width) == expected


def drawn_sizes(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    height = np.exp(random.uniform(0, 8.5, count)).astype(np.int64)
    width = np.maximum(1, height * np.exp(random.uniform(-5.29, 5.29, count))).astype(np.int64)
    sound = np.maximum(height, width) <= 200 * np.minimum(height, width)
    return height[sound], width[sound]


@pytest.mark.parametrize("limits", [TRAINING, (224**2, 1820**2), (100_352, 100_352), (784, 784)])
def test_the_scalar_rule_says_the_same(limits):
    height, width = drawn_sizes(4000)
    expected = [
        np.prod(smart_resize(h, w, PixelLimits(*limits))) // 784 for h, w in zip(height.tolist(), width.tolist())
    ]
    assert tokens_of_frame(height, width, *limits).tolist() == expected


@pytest.mark.parametrize("frames", [1, 56, 57, 80, 111, 112, 400])
def test_a_video_frame_shrinks_with_the_number_of_frames(frames):
    height, width = drawn_sizes(300)
    limits = VideoBudget().limits(frames)
    expected = [np.prod(smart_resize(h, w, limits)) // 784 for h, w in zip(height.tolist(), width.tolist())]
    assert tokens_of_video_frame(height, width, np.full(len(height), frames), **RELEASED).tolist() == expected


def test_video_frames_by_hand():
    """448 x 448 pixels (256 tokens) for up to 56 frames; 11,239,424 / 80 = 140,492 pixels, 364 x 364 (169), for 80."""
    frames = np.array([1, 56, 80])
    assert tokens_of_video_frame(np.full(3, 720), np.full(3, 720), frames, **RELEASED).tolist() == [256, 256, 169]


def test_sampled_frames_are_those_of_the_loader():
    random = np.random.default_rng(1)
    total, rate, fps = (
        random.integers(2, 4000, 200),
        random.choice([24.0, 29.97, 30.0], 200),
        random.uniform(0.5, 2, 200),
    )
    found = sampled_frames((total - 1) / rate, fps, 112).tolist()
    assert found == [len(frame_indices(int(t), r, Sampling(f, 112))) for t, r, f in zip(total, rate, fps)]
    durations, rates = np.array([0.0, 0.0, 0.1, 10.0, 1e5]), np.array([0.0, 2.0, 2.0, 2.0, 2.0])
    assert sampled_frames(durations, rates, 112).tolist() == [0, 1, 1, 21, 112], "a still picture has no rate"


def test_encoder_flops_by_hand():
    """Per patch: 26 blocks of 2 * (4 * 1536^2 + 2 * 1536 * 4608) = 47,185,920; 22 windows of 4 * 64 * 1536 = 393,216;
    connector 2 * (2 * (6144^2 + 6144 * 3584) + 3584 * 4096) / 4 = 67,108,864. Per pair: 4 blocks of 4 * 1536."""
    per_patch = 26 * 47_185_920 + 22 * 393_216 + 67_108_864
    patches, frames = np.array([16, 9216, 1024]), np.array([1, 1, 30])
    expected = [n * t * per_patch + t * 24_576 * n**2 for n, t in zip(patches.tolist(), frames.tolist())]
    assert OPENPANGU_VIT.flops(patches, frames).tolist() == expected
