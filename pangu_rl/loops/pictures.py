"""prompts, conversations -> **rows of ids, positions and pictures**; the pixels travel by reference.

Each distinct picture of a call is decoded once, in threads, and its patches are put once into Ray's object store: every
request of a group and the group's pack carry the same handle, which the actors resolve. The store drops the pixels when
the last record with their handle is gone, so they live as long as the step that drew them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray

from pangu_rl.data.batching import PairRow
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.images import named_images
from pangu_rl.data.layout import TrainingRow
from pangu_rl.data.pairs import Pair
from pangu_rl.data.pictures import PictureFolder, file_digest, in_threads
from pangu_rl.errors import DataError
from pangu_rl.records import Picture, Prompt
from pretrain.processing.media_root import named

WAY_OUT = "put it back, the same command goes on from the last checkpoint"


class RowLoader:
    """What a loop asks for the rows that it is about to use."""

    def __init__(
        self,
        encoder: Encoder,
        folder: PictureFolder,
        digests: Mapping[str, str],
        put: Callable[[np.ndarray], Any] = ray.put,
        notes: Sequence[str] = (),
    ) -> None:
        """`digests`: path -> sha256 of the pictures that an audit found; those of rows that are judged when they are
        drawn have none. `put` gives the handle to patches; `notes` are lines on how the files were read, which a run
        says when it begins."""
        self.encoder = encoder
        self.folder = folder
        self.digests = digests
        self.notes = tuple(notes)
        self._put = put

    def prompts(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        """One row per prompt, ready to be answered.

        Raises:
            DataError: a picture has changed or is gone since the audit.
        """
        pictures = self._pictures(prompts)
        return [
            self.encoder.prompt(row.messages, [pictures[path] for path in row.images], row.tools) for row in prompts
        ]

    def conversations(self, conversations: Sequence[Conversation]) -> list[TrainingRow]:
        """One row per conversation, its mask with it; raises as `prompts`."""
        pictures = self._pictures(conversations)
        return [
            self.encoder.conversation(row.messages, [pictures[path] for path in row.images], row.tools)
            for row in conversations
        ]

    def pairs(self, pairs: Sequence[Pair]) -> list[PairRow]:
        """One row per pair, without its reference; raises as `prompts`."""
        pictures = self._pictures(pairs)
        return [self.encoder.pair(row, [pictures[path] for path in row.images]) for row in pairs]

    def _pictures(self, rows: Sequence[Prompt | Conversation | Pair]) -> dict[str, Picture]:
        paths = list(dict.fromkeys(path for row in rows for path in row.images))
        handles: dict[str, Any] = {}
        loaded: dict[str, Picture] = {}
        for path, picture in zip(paths, in_threads(self._load, paths), strict=True):
            if picture.sha256 not in handles:
                handles[picture.sha256] = self._put(picture.patches)
            loaded[path] = dataclasses.replace(picture, patches=handles[picture.sha256])
        return loaded

    def _load(self, path: str) -> Picture:
        try:
            picture = self.folder.load(path)
        except DataError as error:
            if path not in self.digests:
                raise
            raise DataError(f"{error}; it was sound when the run began: {WAY_OUT}") from None
        if picture.sha256 != self.digests.get(path, picture.sha256):
            raise DataError(
                f"{named(path)} in {self.folder.root} has changed since the run began: sha256 was "
                f"{self.digests[path][:16]}, now {picture.sha256[:16]}: {WAY_OUT}"
            )
        return picture


def picture_lines(data: Path, media_root: Path) -> Iterator[str]:
    """Path and digest of each picture that the rows of `data` name: by content, since sizes are alike among drawn
    pictures and times of change differ between copies of one folder."""
    paths = named_images(data)
    digests = in_threads(partial(file_digest, media_root=media_root), paths, "hashing pictures")
    return (f"{path}\t{digest}\n" for path, digest in zip(paths, digests, strict=True))
