"""Which frames of a video are looked at, and how large: **sampling and budget**. Rows -> decoders, plans.

Which: at a constant rate for tasks that ask when something happens, at a random one for all others. How large: the more
frames a sample has, the smaller each. One step of the grid is one frame; nothing is merged over time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pangu_rl.errors import ConfigError
from pretrain.processing.resize import PixelLimits

RANDOM_FPS = (0.5, 2.0)
"""Frames per second that training draws from. The paper gives no range; 2 is the rate that its data were made at."""
PRECISE_FPS = 1.0
"""Of tasks whose answer is a time."""

BUDGET_KEYS = {
    "total_pixels": "any_res_max_video_total_pixels",
    "frame_min_pixels": "any_res_min_frame_pixels",
    "frame_max_pixels": "any_res_max_frame_pixels",
}
"""Field of `VideoBudget` -> the released processor's name for it."""


@dataclass(frozen=True, slots=True)
class VideoBudget:
    """Pixels of all frames of a sample together, and the least and most of one. The defaults are the released ones."""

    total_pixels: int = 11_239_424
    frame_min_pixels: int = 100_352
    frame_max_pixels: int = 200_704

    @classmethod
    def of_processor(cls, processor: Mapping[str, Any], where: str) -> VideoBudget:
        """What a model folder's processor says, `where` names it; the released values where it says nothing.

        Raises:
            ConfigError: numbers that are no budget.
        """
        found = {field: processor[key] for field, key in BUDGET_KEYS.items() if processor.get(key) is not None}
        budget = cls(**found)
        whole = all(isinstance(value, int) for value in found.values())
        if not (whole and 28**2 <= budget.frame_min_pixels <= min(budget.frame_max_pixels, budget.total_pixels)):
            shown = ", ".join(f"{key} {getattr(budget, field)}" for field, key in BUDGET_KEYS.items())
            raise ConfigError(
                f"{where}: {shown}: must be whole numbers, the least of a frame from 784 and no more than the others"
            )
        return budget

    @property
    def frames(self) -> int:
        """As many as a sample can have at their least: 112 of the released budget."""
        return self.total_pixels // self.frame_min_pixels

    def limits(self, frames: int) -> PixelLimits:
        """Limits of one frame when the videos of a sample have `frames` frames together."""
        share = self.total_pixels // max(frames, 1)
        return PixelLimits(self.frame_min_pixels, min(max(share, self.frame_min_pixels), self.frame_max_pixels))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Frames per second to look at, and how many frames at most; a longer video is looked at more sparsely. The
    defaults are those that the released model answers at."""

    fps: float = 2.0
    max_frames: int = 112
    """The default is where the released budget reaches its smallest frame."""
    span: tuple[float, float] | None = None
    """Seconds from the first frame between which to look; None is all of the video."""
    folder_fps: float | None = None
    """Frames per second that a folder of frames was taken at; None: its frames were chosen, and each is looked at."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0 and self.max_frames > 0):
            raise ConfigError(f"video sampling: fps {self.fps} and max_frames {self.max_frames} must be above 0")


def draw_fps(seed: int, uid: str) -> float:
    """A rate in `RANDOM_FPS`, uniform; a function of the run's seed and the sample alone."""
    low, high = RANDOM_FPS
    number = int.from_bytes(hashlib.sha256(f"{seed}:{uid}".encode()).digest()[:8], "big")
    return low + (high - low) * number / 2**64


def frame_indices(total: int, source_fps: float, sampling: Sampling) -> np.ndarray:
    """Which of `total` frames to take, int64 [T], ascending and starting with the first of the span, which is frame 0
    of all.

    The times are evenly spaced from it: 1 / fps apart, or over the whole length when that would be too many; each takes
    the nearest frame. This is the sampler that vLLM registers as `openpangu`, which knows no span.
    """
    first, last = 0, total - 1
    if sampling.span is not None:
        first, last = (min(round(seconds * source_fps), total - 1) for seconds in sampling.span)
    length = (last - first) / source_fps
    count = int(length * sampling.fps) + 1
    if count <= sampling.max_frames:
        length = min(length, (count - 1) / sampling.fps)
    else:
        count = sampling.max_frames
    times = np.linspace(0, length, count)
    return np.minimum(first + np.rint(times * source_fps), last).astype(np.int64)
