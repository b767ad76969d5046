"""A video becomes frames, and frames become patches, under a budget of pixels. Path -> **Picture with t frames**.

Which frames: at a constant rate for tasks that ask when something happens, at a random one for all others. How large:
the more frames a sample has, the smaller each. One step of the grid is one frame; nothing is merged over time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Picture
from pretrain.processing.media_root import named, open_inside, resolve_inside
from pretrain.processing.patches import resized, to_patches
from pretrain.processing.pictures import MAX_PIXELS
from pretrain.processing.resize import PATCH, PixelLimits
from pretrain.processing.video_rate import unknown_rate

RANDOM_FPS = (0.5, 2.0)
"""Frames per second that training draws from. The paper gives no range; 2 is the rate that its data were made at."""
PRECISE_FPS = 1.0
"""Of tasks whose answer is a time."""

OFF_BY = 1
"""Frames that a header may claim beyond the stream's end; the last one that is there stands for them."""

MAX_CLIP_PIXELS = 1_000_000_000
"""Of the frames taken from one file: 3 GB, and as much again for a moment. 112 frames of 3840 x 2160 are below it."""


@dataclass(frozen=True, slots=True)
class VideoBudget:
    """Pixels of all frames of a sample together, and the least and most of one. The defaults are the released ones."""

    total_pixels: int = 11_239_424
    frame_min_pixels: int = 100_352
    frame_max_pixels: int = 200_704

    def limits(self, frames: int) -> PixelLimits:
        """Limits of one frame when the videos of a sample have `frames` frames together."""
        share = self.total_pixels // max(frames, 1)
        return PixelLimits(self.frame_min_pixels, min(max(share, self.frame_min_pixels), self.frame_max_pixels))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Frames per second to look at, and how many frames at most; a longer video is looked at more sparsely."""

    fps: float = 2.0
    max_frames: int = 112
    """The default is where the released budget reaches its smallest frame."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0 and self.max_frames > 0):
            raise ConfigError(f"video sampling: fps {self.fps} and max_frames {self.max_frames} must be above 0")


@dataclass(frozen=True, slots=True)
class Frames:
    """The sampled frames of one video."""

    rgb: np.ndarray
    """uint8 [T, H, W, 3]"""
    sha256: str
    """Of the file's bytes and of which frames were taken, hex."""


def draw_fps(seed: int, uid: str) -> float:
    """A rate in `RANDOM_FPS`, uniform; a function of the run's seed and the sample alone."""
    low, high = RANDOM_FPS
    number = int.from_bytes(hashlib.sha256(f"{seed}:{uid}".encode()).digest()[:8], "big")
    return low + (high - low) * number / 2**64


def frame_indices(total: int, source_fps: float, sampling: Sampling) -> np.ndarray:
    """Which of `total` frames to take, int64 [T], ascending and starting with frame 0.

    The times are evenly spaced from 0: 1 / fps apart, or over the whole length when that would be too many; each takes
    the nearest frame. This is the sampler that vLLM registers as `openpangu`.
    """
    length = (total - 1) / source_fps
    count = int(length * sampling.fps) + 1
    if count <= sampling.max_frames:
        length = min(length, (count - 1) / sampling.fps)
    else:
        count = sampling.max_frames
    times = np.linspace(0, length, count)
    return np.minimum(np.rint(times * source_fps), total - 1).astype(np.int64)


def read_frames(path: str, media_root: Path, sampling: Sampling) -> Frames:
    """Decode the sampled frames of the MP4, MOV, MKV, WebM or AVI at `path`, relative to `media_root`.

    Raises:
        DataError: a path that leaves the media root, no video, no frames, frames over the limit of pixels, or a stream
            that ends before the last frame wanted, or whose header has no rate.
        ConfigError: OpenCV is not installed.
    """
    with open_inside(path, media_root) as file:
        if not _is_container(file.read(12)):
            raise DataError(f"{_video(path)}: is no MP4, MOV, MKV, WebM or AVI")
        if lacking := unknown_rate(file):
            raise DataError(f"{_video(path)}: {lacking}, so which frame is when is not known: encode it again")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
    capture = _open_capture(resolve_inside(path, media_root))
    try:
        indices = _wanted(capture, path, sampling)
        rgb = _decode(capture, path, indices)
    finally:
        capture.release()
    digest.update(indices.tobytes())
    return Frames(rgb, digest.hexdigest())


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


def load_video(path: str, media_root: Path, sampling: Sampling, budget: VideoBudget) -> Picture:
    """Read, sample, resize and cut the only video of a sample. Raises as `read_frames` and `smart_resize`."""
    frames = read_frames(path, media_root, sampling)
    try:
        grid, patches = cut_frames(frames.rgb, budget.limits(len(frames.rgb)))
    except DataError as error:
        raise DataError(f"{named(path)}: {error}") from None
    return Picture(path=path, sha256=frames.sha256, grid=grid, patches=patches)


def _is_container(head: bytes) -> bool:
    # FFmpeg also reads play lists, which name other files and addresses: those must never reach it.
    return head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or (head[:4], head[8:12]) == (b"RIFF", b"AVI ")


def _open_capture(resolved: Path) -> Any:
    try:
        import cv2
    except ImportError:
        raise ConfigError("videos are decoded by OpenCV: pip install opencv-python-headless") from None
    return cv2.VideoCapture(str(resolved), cv2.CAP_FFMPEG)


def _wanted(capture: Any, path: str, sampling: Sampling) -> np.ndarray:
    import cv2

    keys = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    total, fps, width, height = (capture.get(key) for key in keys)
    if not (capture.isOpened() and total >= 1 and math.isfinite(fps) and fps > 0):
        raise DataError(f"{_video(path)}: {total:.0f} frames at {fps:.3g} frames per second: is no readable video")
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"{_video(path)}: frames of {width:.0f} x {height:.0f} pixels, the limit is {MAX_PIXELS}")
    indices = frame_indices(int(total), fps, sampling)
    if len(indices) * width * height > MAX_CLIP_PIXELS:
        raise DataError(
            f"{_video(path)}: {len(indices)} frames of {width:.0f} x {height:.0f} pixels, the limit of all together is "
            f"{MAX_CLIP_PIXELS}: sample fewer"
        )
    return indices


def _decode(capture: Any, path: str, indices: np.ndarray) -> np.ndarray:
    """RGB of the frames at `indices`. Every frame up to the last is decoded: seeking is inexact in most containers."""
    frames: dict[int, np.ndarray] = {}
    wanted = set(indices.tolist())
    for index in range(int(indices[-1]) + 1):
        decoded = capture.grab()
        if decoded and index in wanted:
            decoded, frame = capture.retrieve()
            frames[index] = frame
        # Here a stream's end also ends the loop, however many frames its header claims.
        if not decoded:
            if frames and index >= int(indices[-1]) - OFF_BY:
                break
            raise DataError(f"{_video(path)}: frame {index} of {int(indices[-1]) + 1} cannot be decoded: truncated?")
    last = frames[max(frames)]
    return np.stack([frames.get(index, last)[:, :, ::-1] for index in indices.tolist()])


def _video(path: str) -> str:
    return named(path).replace("picture", "video", 1)
