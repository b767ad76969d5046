"""A video file, or a folder of frames, opened. Path -> **header, and frames one by one** -> what cuts them."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from pangu_rl.errors import ConfigError, DataError
from pangu_rl.storage.copies import folder_names
from pretrain.processing.media_root import named, open_inside, resolve_inside
from pretrain.processing.pictures import MAX_PIXELS, open_picture, picture_size
from pretrain.processing.video import PRECISE_FPS, Sampling, frame_indices
from pretrain.processing.video_rate import unknown_rate

OFF_BY = 1
"""Frames that a header may claim beyond the stream's end; the last one that is there stands for them."""


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a video says of itself."""

    frames: int
    fps: float
    width: int
    height: int
    sampled: bool = False
    """A folder of frames: somebody has chosen them already, so each is taken; they count as a second apart."""

    def paced(self, sampling: Sampling) -> VideoHeader:
        """What is sampled: of a folder whose rate is known, the video that its frames are."""
        known = self.sampled and sampling.folder_fps is not None
        return replace(self, fps=sampling.folder_fps, sampled=False) if known else self

    def indices(self, sampling: Sampling) -> np.ndarray:
        """Which frames to take, int64 [T]."""
        video = self.paced(sampling)
        own = replace(sampling, fps=video.fps) if video.sampled else sampling
        return frame_indices(video.frames, video.fps, own)


class Source(Protocol):
    """An open video."""

    path: str
    header: VideoHeader
    sha256: str
    """Of the file's bytes, or of those of the folder's frames; hex."""

    def frames(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3] of each of `indices`, which ascend. Raises DataError."""


def named_video(path: str) -> str:
    """As `named`, for messages about a video."""
    return named(path).replace("picture", "video", 1)


@contextmanager
def open_video(path: str, media_root: Path) -> Iterator[Source]:
    """The video at `path`, relative to `media_root`; raises as `read_header`."""
    try:
        names = folder_names(resolve_inside(path, media_root))
        if names is not None:
            yield FrameFolder(path, names, media_root)
            return
        with ExitStack() as opened:
            yield VideoFile(path, opened.enter_context(open_inside(path, media_root)), opened)
    except DataError as error:
        raise DataError(str(error).replace(named(path), named_video(path))) from None


class FrameFolder:
    """A folder whose pictures are the frames, in the order of their names."""

    def __init__(self, path: str, names: Sequence[str], media_root: Path) -> None:
        """`names` of what lies in it; hidden files are no frames."""
        self.path, self._root = path, media_root
        self._names = sorted(name for name in names if not name.startswith("."))
        if not self._names:
            raise DataError(f"{named_video(path)}: is an empty folder")
        width, height = picture_size(self._of(0), media_root)
        self.header = VideoHeader(len(self._names), PRECISE_FPS, width, height, sampled=True)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for path in self.frame_paths:
            with open_inside(path, self._root) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def frame_paths(self) -> list[str]:
        """Relative to the media root, in order."""
        return [self._of(index) for index in range(len(self._names))]

    def frames(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        for index in indices.tolist():
            frame = np.asarray(open_picture(self._of(index), self._root).image)
            _require_size(self, frame, index)
            yield frame

    def _of(self, index: int) -> str:
        return f"{self.path}/{self._names[index]}"


class VideoFile:
    """One file, decoded by OpenCV."""

    def __init__(self, path: str, file: BinaryIO, opened: ExitStack) -> None:
        """What else is opened is closed with `opened`."""
        self.path = path
        if not _is_container(file.read(12)):
            raise DataError(f"{named_video(path)}: is no MP4, MOV, MKV, WebM or AVI")
        if lacking := unknown_rate(file):
            raise DataError(f"{named_video(path)}: {lacking}, so which frame is when is not known: encode it again")
        self._file = file
        self._capture = _open_capture(_name_of(file, opened))
        opened.callback(self._capture.release)
        self.header = _header(self._capture, path)

    @property
    def sha256(self) -> str:
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def frames(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        for frame in decoded(self._capture, self.path, indices):
            _require_size(self, frame, 0)
            yield frame


def decoded(capture: Any, path: str, indices: np.ndarray) -> Iterator[np.ndarray]:
    """RGB of the frames at `indices`. Every frame up to the last is decoded: seeking is inexact in most containers."""
    due, last, frame = deque(indices.tolist()), int(indices[-1]), None
    for index in range(last + 1):
        # Here a stream's end also ends the loop, however many frames its header claims.
        if not capture.grab():
            if frame is not None and index >= last - OFF_BY:
                break
            raise DataError(f"{named_video(path)}: frame {index} of {last + 1} cannot be decoded: truncated?")
        if index == due[0]:
            frame = capture.retrieve()[1][:, :, ::-1]
        while due and index == due[0]:
            due.popleft()
            yield frame
    yield from [frame] * len(due)


def _is_container(head: bytes) -> bool:
    # FFmpeg also reads play lists, which name other files and addresses: those must never reach it.
    return head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or (head[:4], head[8:12]) == (b"RIFF", b"AVI ")


def _name_of(file: BinaryIO, opened: ExitStack) -> str:
    """A name under which the decoder finds the very file that was checked; one of a tar is copied out."""
    file.seek(0)
    try:
        return f"/proc/self/fd/{file.fileno()}"
    except OSError:  # in memory
        copy = opened.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115
        shutil.copyfileobj(file, copy)
        copy.flush()
        return copy.name


def _open_capture(name: str) -> Any:
    try:
        import cv2
    except ImportError:
        raise ConfigError("videos are decoded by OpenCV: pip install opencv-python-headless") from None
    # One thread: several videos are decoded side by side, each in a process of its own.
    return cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _header(capture: Any, path: str) -> VideoHeader:
    import cv2

    keys = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    total, fps, width, height = (capture.get(key) for key in keys)
    if not (capture.isOpened() and total >= 1 and math.isfinite(fps) and fps > 0):
        raise DataError(f"{named_video(path)}: {total:.0f} frames at {fps:.3g} frames per second: is no readable video")
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"{named_video(path)}: frames of {width:.0f} x {height:.0f} pixels, the limit is {MAX_PIXELS}")
    return VideoHeader(int(total), fps, int(width), int(height))


def _require_size(source: Source, frame: np.ndarray, index: int) -> None:
    """
    Raises:
        DataError: a frame of another size than the first's, by which tokens were counted.
    """
    height, width = frame.shape[:2]
    if (width, height) != (source.header.width, source.header.height):
        raise DataError(
            f"{named_video(source.path)}: frame {index} has {width} x {height} pixels, the first "
            f"{source.header.width} x {source.header.height}: frames must be of one size"
        )
