"""Videos of one grey level a frame."""

from __future__ import annotations

import json
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


def show_small_frames(model: Path, frames: int = 8) -> Path:
    """Give a model folder a budget of `frames` frames of 56 x 56 pixels: 4 tokens each."""
    path = next(
        file for name in ("processor_config", "preprocessor_config") if (file := model / f"{name}.json").is_file()
    )
    config = json.loads(path.read_text())
    sizes = {"any_res_min_frame_pixels": 56**2, "any_res_max_frame_pixels": 56**2}
    config.get("image_processor", config).update(sizes, any_res_max_video_total_pixels=frames * 56**2)
    path.write_text(json.dumps(config))
    return model
