"""The folder that rows' pictures lie in. Path -> **picture**: from its header, decoded, or audited with many others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Picture
from pangu_rl.storage.copies import has_folder
from pretrain.families import known_kinds
from pretrain.families.family import Family
from pretrain.processing.embedded import kept_file, original
from pretrain.processing.media_root import named, open_inside
from pretrain.processing.pictures import Decode, decode, open_picture, picture_size
from pretrain.processing.resize import PixelLimits

T = TypeVar("T")
THREADS = min(32, os.cpu_count() or 1)
"""Decoding and hashing leave the interpreter lock."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What decoding every picture of a data set found."""

    digests: dict[str, str]
    """Path -> sha256 of the file, of each sound picture."""
    problems: dict[str, str]
    """Path -> why it cannot be used."""

    def problem(self, images: Sequence[str]) -> str | None:
        """Why a row with these `images` cannot be used, or None."""
        return next((self.problems[path] for path in images if path in self.problems), None)


class PictureFolder:
    """Pictures under `data.media_root`, in the sizes that one model reads them in."""

    def __init__(
        self,
        media_root: str | None,
        model_path: Path,
        family: Family | None,
        *,
        rows: Sequence[Path] = (),
        decode: Decode = decode,
    ) -> None:
        """`family` is that of the model in `model_path`, None of a text model; `rows` are files that name pictures, for
        the way out of a root that is not set; `decode` is what decodes.

        Raises:
            ConfigError: `media_root` is no folder.
        """
        self.root = resolve_path(media_root) if media_root is not None else None
        if self.root is not None and not has_folder(self.root):
            raise ConfigError(f"data.media_root {media_root} is no folder: set it to the one that rows' images lie in")
        self._rows = tuple(rows)
        self._model_path = model_path
        self._decode = decode
        self.family = family

    @cached_property
    def limits(self) -> PixelLimits:
        """What the model folder's processor says; read when a row has a picture, of which there are none beside a text
        model.

        Raises:
            ConfigError: it says nothing, or wants what is not done here.
        """
        return self.family.limits

    def outline(self, path: str) -> Picture:
        """The picture without its patches and identity, by the header of its file.

        Raises:
            ConfigError: a text model, no media root, or no picture sizes in the model folder.
            DataError: no picture that can be used.
        """
        root, family = self._usable(path)
        width, height = picture_size(path, root)
        with _named(path):
            return family.picture(None, family.grid(height, width, self.limits), path)

    def load(self, path: str) -> Picture:
        """The whole picture; raises as `outline`."""
        root, family = self._usable(path)
        loaded = open_picture(path, root, self._decode)
        with _named(path):
            grid = family.grid(loaded.image.height, loaded.image.width, self.limits)
            return family.picture(family.cut(loaded.image, self.limits), grid, path, loaded.sha256)

    def audit(self, paths: Iterable[str], title: str = "decoding pictures") -> Audit:
        """Decode each of `paths` once, in threads: a truncated file is found before anything is started."""
        audit = Audit({}, {})
        distinct = list(dict.fromkeys(paths))
        for path, found in zip(distinct, in_threads(self._digest, distinct, title), strict=True):
            if isinstance(found, DataError):
                audit.problems[path] = str(found)
            else:
                audit.digests[path] = found
        return audit

    def _digest(self, path: str) -> str | DataError:
        root, _ = self._usable(path)
        try:
            return open_picture(path, root, self._decode).sha256
        except DataError as error:
            return error

    def _usable(self, path: str) -> tuple[Path, Family]:
        if self.family is None:
            raise ConfigError(
                f"key images names {path}, and model.path {self._model_path} is {_blind(self._model_path)}: set it to "
                f"one of {known_kinds()}, or train on rows without pictures"
            )
        if kept_file(path) is not None:
            self._require_same(path)
            return self.root or Path(), self.family
        if self.root is None:
            beside = next((file.parent for file in self._rows if (file.parent / path).is_file()), None)
            raise ConfigError(
                f"key images names {path}, and data.media_root is not set: set it to "
                f"{beside or 'the folder that images lie in'}"
            )
        return self.root, self.family

    def _require_same(self, path: str) -> None:
        """
        Raises:
            DataError: the row names a file beside its picture, and that is another one.
        """
        embedded = original(path)
        if embedded is None or self.root is None:
            return
        on_disk = file_digest(embedded[1], self.root)
        if on_disk and on_disk != embedded[0]:
            raise DataError(
                f"{named(embedded[1])}: the row's bytes (sha256 {embedded[0][:16]}) and the file in {self.root} "
                f"({on_disk[:16]}) are two pictures: keep the one that is meant"
            )


def _blind(model_path: Path) -> str:
    """What the model in `model_path` is, which is shown no pictures."""
    config = model_config(model_path)
    if config.get("vision_config"):
        return f"a {config.get('model_type')}, whose pictures are not known here"
    return "a text model (its config.json has no vision tokens)"


@contextmanager
def _named(path: str) -> Iterator[None]:
    """What is wrong with a picture is said with its path."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{named(path)}: {error}") from None


def file_digest(path: str, media_root: Path) -> str:
    """sha256 of the file at `path`, hex; empty for one that cannot be read."""
    try:
        with open_inside(path, media_root) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except DataError:
        return ""


def in_threads(call: Callable[[str], T], items: Sequence[str], title: str | None = None) -> Iterator[T]:
    """`call` of each item, in order; under a `title`, with a progress bar on a terminal."""
    if not items:
        return
    console = Console(stderr=True)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="pictures") as threads:
        results = threads.map(call, items)
        hidden = title is None or not console.is_terminal
        yield from track(results, title or "", total=len(items), console=console, transient=True, disable=hidden)
