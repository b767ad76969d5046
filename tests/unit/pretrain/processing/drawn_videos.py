"""Videos of one grey level a frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np


def draw_video(path: Path, levels: Iterable[int], *, fps: float = 10.0, size: tuple[int, int] = (64, 48)) -> Path:
    """A video of MPEG-4 frames, `size` is (width, height)."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    writer.release()
    return path
