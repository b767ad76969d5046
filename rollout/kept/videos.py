"""The videos of stored rollouts: each once, under its content's hash, in `run_dir/rollouts/videos/`.

A copy, as of pictures. A folder of frames stays one, so that what is kept can be shown again as it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from pangu_rl.storage.copies import folder_names
from pangu_rl.whole_file import flush
from pretrain.processing.media_root import open_inside, resolve_inside
from pretrain.processing.video_source import FrameFolder, named_video
from rollout.kept.pictures import WAY_OUT

VIDEO_FOLDER = "videos"
SUFFIXES = {b"ftyp": ".mp4", b"AVI ": ".avi"}
"""By what stands in the first 12 bytes; the other container is Matroska's."""


class KeptVideos:
    """The `videos` folder of one run's rollouts."""

    def __init__(self, rollouts: Path, media_root: Path | None) -> None:
        self._folder = rollouts / VIDEO_FOLDER
        self._media_root = media_root
        self._names = {path.stem: path.name for path in self._folder.glob("*") if path.suffix != ".tmp"}

    def keep(self, picture: Picture) -> str:
        """Path of the copy of a picture's video, relative to the rollouts folder; made if there is none, whole or not
        at all.

        Raises:
            DataError: the original is gone, or is no longer what was decoded. OSError: the disk is full.
        """
        sha256 = picture.clip.sha256
        if sha256 not in self._names:
            self._names[sha256] = self._copy(picture.path, sha256)
        return f"{VIDEO_FOLDER}/{self._names[sha256]}"

    def _copy(self, path: str, sha256: str) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{sha256}.tmp"
        try:
            found = copy_video(path, self._media_root or Path(), temporary)
        except DataError as error:
            raise DataError(
                f"{error} in {self._media_root}, and the rollouts that saw it are to be stored: {WAY_OUT}"
            ) from None
        if found != sha256:
            raise DataError(
                f"{named_video(path)} in {self._media_root} has changed since the rollouts saw it: sha256 was "
                f"{sha256[:16]}, now {found[:16]}: {WAY_OUT}"
            )
        name = sha256 + _suffix(temporary)
        temporary.rename(self._folder / name)
        flush(self._folder)
        return name


def drop_unfinished(folder: Path) -> None:
    """Remove what a kill left half copied."""
    for path in folder.glob("*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy_video(path: str, media_root: Path, target: Path) -> str:
    """Copy a file, or the frames of a folder and nothing else of it; the sha256 of what was copied. Raises as
    `open_inside`."""
    names = folder_names(resolve_inside(path, media_root))
    if names is None:
        return _copy_file(path, media_root, target)
    target.mkdir(exist_ok=True)
    for frame in FrameFolder(path, names, media_root).frame_paths:
        _copy_file(frame, media_root, target / Path(frame).name)
    flush(target)
    return FrameFolder(target.name, os.listdir(target), target.parent).sha256


def _copy_file(path: str, media_root: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with open_inside(path, media_root) as source, target.open("wb") as copy:
        while piece := source.read(1 << 20):
            digest.update(piece)
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _suffix(copy: Path) -> str:
    """What its content asks for; none of a folder."""
    if copy.is_dir():
        return ""
    with copy.open("rb") as file:
        head = file.read(12)
    return next((suffix for mark, suffix in SUFFIXES.items() if mark in head), ".mkv")
