"""Frames of a video -> **where its shots change, and clips of about a length**."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

THUMBNAIL = (64, 36)


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Hue, saturation and value of a small copy, int16 [36, 64, 3]; `frame` is uint8 [H, W, 3], RGB."""
    small = cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.int16)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of hue, saturation and value, as PySceneDetect's ContentDetector has it; hue, of 180,
    goes round."""
    apart = np.abs(one - other)
    apart[..., 0] = np.minimum(apart[..., 0], 180 - apart[..., 0])
    return float(apart.mean())


def clips_of(cuts: Sequence[float], end: float, seconds: float) -> list[tuple[float, float]]:
    """Beginnings and ends, without gaps from 0 to `end`: each clip ends at the change of shot that is nearest to
    `seconds` behind its beginning and between half and one and a half of it; without one, after `seconds`. A rest of
    less than half joins the clip before it."""
    clips: list[tuple[float, float]] = []
    begin = 0.0
    while end - begin > 1.5 * seconds:
        near = [cut for cut in cuts if 0.5 * seconds <= cut - begin <= 1.5 * seconds]
        until = min(near, key=lambda cut: abs(cut - begin - seconds), default=begin + seconds)
        clips.append((begin, until))
        begin = until
    if clips and end - begin < 0.5 * seconds:
        begin = clips.pop()[0]
    return [*clips, (begin, end)]
