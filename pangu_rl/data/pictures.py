"""The folder that rows' pictures and videos lie in. View -> **picture**: by its header, decoded, or audited."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.media.views import Shows, View, video_views, views_of
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Clip, Picture
from pangu_rl.storage.copies import folder_names, has_folder
from pretrain.families import known_kinds
from pretrain.families.family import Family
from pretrain.processing.embedded import kept_file, original
from pretrain.processing.media_root import named, open_inside, resolve_inside
from pretrain.processing.pictures import Decode, decode, open_picture, picture_size
from pretrain.processing.resize import PixelLimits
from pretrain.processing.video import VideoBudget
from pretrain.processing.video_decoder import cut_video, video_digest, video_header
from pretrain.processing.video_source import FrameFolder, VideoHeader, named_video

T = TypeVar("T")
Item = TypeVar("Item")
THREADS = min(32, os.cpu_count() or 1)
"""Decoding and hashing leave the interpreter lock."""
HEADERS = 65_536
"""Of videos, that are kept: reading one takes a turn of a decoder."""
FileSize = tuple[int, int, int, float]
"""(width, height, frames, seconds): 0 frames of a still picture, and of a video those shown."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What decoding every picture and video of a data set found."""

    digests: dict[str, str]
    """Path -> sha256 of the file, of each sound one."""
    problems: dict[str, str]
    """Path -> why it cannot be used."""

    def problem(self, row: Shows) -> str | None:
        """Why `row` cannot be used, or None."""
        return next((self.problems[path] for path in (*row.images, *row.videos) if path in self.problems), None)


class PictureFolder:
    """Pictures and videos under `data.media_root`, in the sizes that one model reads them in."""

    def __init__(
        self,
        media_root: str | None,
        model_path: Path,
        family: Family | None,
        *,
        seed: int | None = 0,
        rows: Sequence[Path] = (),
        decode: Decode = decode,
    ) -> None:
        """`family` is that of the model in `model_path`, None of a text model; `seed` draws at which rate a row sees a
        video, None is the released rate for all; `rows` are files that name pictures, for the way out of a root that is
        not set; `decode` is what decodes a picture.

        Raises:
            ConfigError: `media_root` is no folder.
        """
        self.root = resolve_path(media_root) if media_root is not None else None
        if self.root is not None and not has_folder(self.root):
            raise ConfigError(f"data.media_root {media_root} is no folder: set it to the one that rows' images lie in")
        self._seed = seed
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

    def views(self, row: Shows) -> list[View]:
        """What `row` shows, in order; of its videos the headers are read.

        Raises:
            ConfigError: as `outline`; also a model whose videos are not known.
            DataError: a video that cannot be used, or more frames than the budget has.
        """
        return views_of(row, video_views(row, self._header, self._budget, self._seed) if row.videos else ())

    def outlines(self, row: Shows) -> list[Picture]:
        """All that `row` shows, in order, without patches and identity, by the headers; raises as `views`."""
        return [self.outlined(view, self.size(view)) for view in self.views(row)]

    def outlined(self, view: View, size: FileSize) -> Picture:
        """The view of a file of this `size`, without patches and identity.

        Raises:
            DataError: it has no shape that the model takes.
        """
        width, height, frames, _ = size
        if view.sampling is None:
            with _named(view.path):
                return self.family.picture(None, self.family.grid(height, width, self.limits), view.path)
        with _named(view.path, named_video):
            _, rows, columns = self.family.grid(height, width, view.limits)
        return replace(self.family.picture(None, (frames, rows, columns), view.path), clip=Clip(sha256="", seconds=()))

    def shown(self, view: View) -> Picture:
        """The whole picture, or the frames of a video; raises as `outline`."""
        if view.sampling is None:
            return self.load(view.path)
        return cut_video(view.path, self._usable(view.path, "videos")[0], view.sampling, view.limits)

    def size(self, view: View) -> FileSize:
        """Of its file, by the header; raises as `outline`."""
        if view.sampling is None:
            return *picture_size(view.path, self._usable(view.path)[0]), 0, 0.0
        header = self._header(view.path).paced(view.sampling)
        return header.width, header.height, len(header.indices(view.sampling)), (header.frames - 1) / header.fps

    def outline(self, path: str) -> Picture:
        """The picture without its patches and identity, by the header of its file.

        Raises:
            ConfigError: a text model, no media root, or no picture sizes in the model folder.
            DataError: no picture that can be used.
        """
        view = View(path)
        return self.outlined(view, self.size(view))

    def load(self, path: str) -> Picture:
        """The whole still picture; raises as `outline`."""
        root, family = self._usable(path)
        loaded = open_picture(path, root, self._decode)
        with _named(path):
            grid = family.grid(loaded.image.height, loaded.image.width, self.limits)
            return family.picture(family.cut(loaded.image, self.limits), grid, path, loaded.sha256)

    def audit(self, rows: Iterable[Shows]) -> Audit:
        """Decode each picture and video of `rows` once, in threads: a truncated file is found before anything is
        started."""
        audit = Audit({}, {})
        rows = list(rows)
        for kind, digest in (("images", self._picture_digest), ("videos", video_digest)):
            paths = list(dict.fromkeys(path for row in rows for path in getattr(row, kind)))
            judged = in_threads(partial(self._judged, kind, digest), paths, f"decoding {kind}")
            for path, found in zip(paths, judged, strict=True):
                if isinstance(found, DataError):
                    audit.problems[path] = str(found)
                else:
                    audit.digests[path] = found
        return audit

    def _judged(self, kind: str, digest: Callable[[str, Path], str], path: str) -> str | DataError:
        root, _ = self._usable(path, kind)
        try:
            return digest(path, root)
        except DataError as error:
            return error

    def _picture_digest(self, path: str, media_root: Path) -> str:
        return open_picture(path, media_root, self._decode).sha256

    @cached_property
    def _header(self) -> Callable[[str], VideoHeader]:
        return lru_cache(maxsize=HEADERS)(lambda path: video_header(path, self._usable(path, "videos")[0]))

    @property
    def _budget(self) -> VideoBudget:
        if self.family is None:
            return VideoBudget()  # whoever asks is refused for having no eyes
        if (budget := self.family.video_budget) is None:
            raise ConfigError(
                f"key videos is given, and videos of a {self.family.config['model_type']} are not known (model.path "
                f"{self._model_path}): take openPangu-VL or MindVL, or rows without videos"
            )
        return budget

    def _usable(self, path: str, kind: str = "images") -> tuple[Path, Family]:
        if self.family is None:
            raise ConfigError(
                f"key {kind} names {path}, and model.path {self._model_path} is {_blind(self._model_path)}: set it to "
                f"one of {known_kinds()}, or train on rows without pictures"
            )
        if kept_file(path) is not None:
            self._require_same(path)
            return self.root or Path(), self.family
        if self.root is None:
            beside = next((file.parent for file in self._rows if (file.parent / path).is_file()), None)
            raise ConfigError(
                f"key {kind} names {path}, and data.media_root is not set: set it to "
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
def _named(path: str, name: Callable[[str], str] = named) -> Iterator[None]:
    """What is wrong with a picture is said with its path."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name(path)}: {error}") from None


def file_digest(path: str, media_root: Path) -> str:
    """sha256 of the file, or of the folder of frames, at `path`, hex; empty for one that cannot be read."""
    try:
        if (names := folder_names(resolve_inside(path, media_root))) is not None:
            return FrameFolder(path, names, media_root).sha256
        with open_inside(path, media_root) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except DataError:
        return ""


def in_threads(call: Callable[[Item], T], items: Sequence[Item], title: str | None = None) -> Iterator[T]:
    """`call` of each item, in order; under a `title`, with a progress bar on a terminal."""
    if not items:
        return
    console = Console(stderr=True)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="pictures") as threads:
        results = threads.map(call, items)
        hidden = title is None or not console.is_terminal
        yield from track(results, title or "", total=len(items), console=console, transient=True, disable=hidden)
