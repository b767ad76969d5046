"""Frames of a video, sampled, resized and cut. Path -> **header, digest; Picture with t frames** -> decoders.

A picture of t frames is made one frame at a time, so that what is held is its patches and one decoded frame.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_rl.errors import DataError
from pangu_rl.records import Clip, Picture
from pretrain.processing.patches import resized, to_patches
from pretrain.processing.resize import PATCH, PixelLimits
from pretrain.processing.video import Sampling
from pretrain.processing.video_source import VideoHeader, named_video, open_video

MAX_CLIP_PIXELS = 1_000_000_000
"""Of frames that are held undivided: 3 GB, and as much again for a moment. 112 frames of 3840 x 2160 are below it."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The sampled frames of one video."""

    rgb: np.ndarray
    """uint8 [T, H, W, 3]"""
    sha256: str
    """Of the file's bytes and of which frames were taken, hex."""


def read_header(path: str, media_root: Path) -> VideoHeader:
    """What the MP4, MOV, MKV, WebM or AVI at `path`, or the folder of frames there, says of itself.

    Raises:
        DataError: a path that leaves the media root, no video, no frames, a header without a rate.
        ConfigError: OpenCV is not installed.
    """
    with open_video(path, media_root) as source:
        return source.header


def check_video(path: str, media_root: Path) -> str:
    """Decode all of a video; its sha256. Raises as `read_header`, and for a stream that ends before its header says."""
    with open_video(path, media_root) as source:
        last = source.header.frames - 1
        # The way to the last frame of a file leads over all others; in a folder each is a file of its own.
        every = np.arange(last + 1) if source.header.sampled else np.array([0, last])
        deque(source.frames(every), maxlen=0)
        return source.sha256


def load_video(path: str, media_root: Path, sampling: Sampling, limits: PixelLimits) -> Picture:
    """Read, sample, resize and cut a video. Raises as `check_video` and `smart_resize`."""
    with open_video(path, media_root) as source:
        indices = source.header.indices(sampling)
        try:
            cut = [resized(Image.fromarray(frame), limits) for frame in source.frames(indices)]
        except DataError as error:
            raise error if path in str(error) else DataError(f"{named_video(path)}: {error}") from None
        sha256 = source.sha256
    grid = (len(cut), cut[0].shape[0] // PATCH, cut[0].shape[1] // PATCH)
    seconds = tuple((indices / source.header.paced(sampling).fps).round(3).tolist())
    return Picture(
        path=path,
        sha256=_identity(sha256, indices),
        grid=grid,
        patches=to_patches(np.stack(cut)),
        clip=Clip(sha256=sha256, seconds=seconds),
    )


def read_frames(path: str, media_root: Path, sampling: Sampling) -> Frames:
    """Decode the sampled frames of a video, whole. Raises as `check_video`, and for too many pixels together."""
    with open_video(path, media_root) as source:
        indices, header = source.header.indices(sampling), source.header
        if len(indices) * header.width * header.height > MAX_CLIP_PIXELS:
            raise DataError(
                f"{named_video(path)}: {len(indices)} frames of {header.width} x {header.height} pixels, the limit of "
                f"all together is {MAX_CLIP_PIXELS}: sample fewer"
            )
        return Frames(np.stack(list(source.frames(indices))), _identity(source.sha256, indices))


def stack_frames(frames: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
    """Frames in memory as uint8 [T, H, W, 3].

    Raises:
        DataError: no frame, or frames of two sizes.
    """
    arrays = [np.asarray(f.convert("RGB") if isinstance(f, Image.Image) else f) for f in frames]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise DataError(f"a video of {len(arrays)} frames: " + (f"of sizes {sorted(shapes)}" if shapes else "is empty"))
    return np.stack(arrays)


def cut_frames(rgb: np.ndarray, limits: PixelLimits) -> tuple[tuple[int, int, int], np.ndarray]:
    """Grid (t, h, w) in patches and uint8 patches [t * h * w, 588] of uint8 frames [T, H, W, 3]. As `smart_resize`."""
    shown = np.stack([resized(Image.fromarray(frame), limits) for frame in rgb])
    return (len(shown), shown.shape[1] // PATCH, shown.shape[2] // PATCH), to_patches(shown)


def _identity(sha256: str, indices: np.ndarray) -> str:
    """Of the same file, looked at otherwise, another."""
    return hashlib.sha256(bytes.fromhex(sha256) + indices.tobytes()).hexdigest()
