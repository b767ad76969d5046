"""The pictures of stored rollouts: each file once, under its content's hash, in `run_dir/rollouts/images/`.

A copy, no link: what a run was shown stays what it was when the media folder is tidied up.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from pangu_rl.whole_file import flush
from pretrain.processing.media_root import named, read_inside
from pretrain.processing.pictures import MAX_BYTES, read_header

FOLDER = "images"
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}
"""Of the content, so that a hash names one file whatever the original is called."""
WAY_OUT = "put it back, the same command goes on from the last checkpoint"


class KeptPictures:
    """The `images` folder of one run's rollouts."""

    def __init__(self, rollouts: Path, media_root: Path | None) -> None:
        self._folder = rollouts / FOLDER
        self._media_root = media_root
        self._names = {path.stem: path.name for path in self._folder.glob("*.*") if path.suffix != ".tmp"}

    def keep(self, picture: Picture) -> str:
        """Path of the picture's copy, relative to the rollouts folder; made if there is none, whole or not at all.

        Raises:
            DataError: the original is gone, or is no longer what was decoded. OSError: the disk is full.
        """
        if picture.sha256 not in self._names:
            self._names[picture.sha256] = self._copy(picture)
        return f"{FOLDER}/{self._names[picture.sha256]}"

    def _copy(self, picture: Picture) -> str:
        content = self._original(picture)
        name = picture.sha256 + SUFFIXES[read_header(content, picture.path).format]
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{picture.sha256}.tmp"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._folder / name)
        flush(self._folder)
        return name

    def _original(self, picture: Picture) -> bytes:
        try:
            content = read_inside(picture.path, self._media_root, MAX_BYTES)
        except DataError as error:
            raise DataError(
                f"{error} in {self._media_root}, and the rollouts that saw it are to be stored: {WAY_OUT}"
            ) from None
        found = hashlib.sha256(content).hexdigest()
        if found != picture.sha256:
            raise DataError(
                f"{named(picture.path)} in {self._media_root} has changed since the rollouts saw it: sha256 was "
                f"{picture.sha256[:16]}, now {found[:16]}: {WAY_OUT}"
            )
        return content
