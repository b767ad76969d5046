"""Sizes of pictures and videos -> **tokens and encoder FLOPs**, for millions at once and without opening one.

The scalar rule that the loader obeys is `pretrain.processing.resize.smart_resize`; this is the same one over arrays, so
that a plan and the samples that it names have the same lengths. Arrays are int64 [K], one entry per picture or video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOKEN = 28
"""Side in pixels of what one token of the language model covers: 2 x 2 patches."""
PATCHES_PER_TOKEN = 4
MAX_ASPECT = 200
SMALL_EDGE = 56
"""A picture with a side of at most one token is first enlarged until its short side has this many pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCost:
    """Forward FLOPs of the vision encoder with its connector: linear in the patches and quadratic inside a frame."""

    per_patch: float
    per_pair: float
    """For each pair of patches of one frame, in the blocks with full attention."""

    def flops(self, patches: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """`frames` [K] frames of `patches` [K] patches each -> float64 [K]. Attention never crosses frames."""
        return frames * (self.per_patch * patches + self.per_pair * np.square(patches, dtype=np.float64))

    def pairs(self, flops: float, patches: int) -> float:
        """Pairs of patches within a frame of what has so many `patches` in all and costs `flops`."""
        return max(0.0, (flops - self.per_patch * patches) / self.per_pair)


_BLOCK = 2 * (4 * 1536**2 + 2 * 1536 * 4608)
_WINDOW = 4 * 64 * 1536
_CONNECTOR = 2 * (2 * (6144**2 + 6144 * 3584) + 3584 * 4096) // PATCHES_PER_TOKEN
OPENPANGU_VIT = EncoderCost(per_patch=26 * _BLOCK + 22 * _WINDOW + _CONNECTOR, per_pair=4 * 4 * 1536)
"""26 blocks of width 1536, 22 of them over windows of 64 patches and 4 over the whole frame; two mergers and a
projection to 4096 at one token per 4 patches. A multiplication with its addition is 2 FLOPs."""


def tokens_of_frame(
    height: np.ndarray, width: np.ndarray, least: int | np.ndarray, greatest: int | np.ndarray
) -> np.ndarray:
    """Tokens of one frame or still picture at its native resolution, its area kept between `least` and `greatest`.

    Sides must be at least 1 and at most 200 times each other. The arithmetic is that of the scalar rule, operation for
    operation, so the two agree in every bit.
    """
    height, width = _enlarge_small(height, width)
    area = height * width
    rows, columns = np.rint(height / TOKEN), np.rint(width / TOKEN)
    shown = rows * columns * TOKEN**2
    scale = np.sqrt(area / greatest)
    shrunk = [np.maximum(1, np.floor(side / scale / TOKEN)) for side in (height, width)]
    scale = np.sqrt(least / area)
    grown = [np.ceil(side * scale / TOKEN) for side in (height, width)]
    rows, columns = (
        np.select([shown > greatest, shown < least], [smaller, larger], side).astype(np.int64)
        for side, smaller, larger in zip((rows, columns), shrunk, grown, strict=True)
    )
    # Only a thin picture under tight limits: its short side could not shrink as far as its area had to.
    longest = greatest // (np.minimum(rows, columns) * TOKEN) // TOKEN
    return np.minimum(rows, longest) * np.minimum(columns, longest)


def tokens_of_video_frame(
    height: np.ndarray, width: np.ndarray, frames_of_sample: np.ndarray, *, total: int, least: int, most: int
) -> np.ndarray:
    """Tokens of each frame: the more frames all videos of the sample have, the smaller each is shown.

    `total` pixels are for all of them; one has from `least` to `most`.
    """
    greatest = np.clip(total // np.maximum(frames_of_sample, 1), least, most)
    return tokens_of_frame(height, width, least, greatest)


def sampled_frames(duration: np.ndarray, fps: np.ndarray, max_frames: int) -> np.ndarray:
    """Frames taken of a video at `fps` frames per second, with `duration` seconds from its first to its last frame.

    A video that would have more than `max_frames` is looked at more sparsely; one of a single frame lasts 0 seconds.
    Without a rate there is none.
    """
    return np.where(fps > 0, np.minimum(np.floor(duration * fps) + 1, max_frames), 0).astype(np.int64)


def _enlarge_small(height: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    short = np.minimum(height, width)
    enlarged = (SMALL_EDGE / short * np.maximum(height, width)).astype(np.int64)
    small, wide = short <= TOKEN, width >= height
    return (
        np.where(small, np.where(wide, SMALL_EDGE, enlarged), height),
        np.where(small, np.where(wide, enlarged, SMALL_EDGE), width),
    )
