"""prompts, conversations -> **rows of ids, positions and pictures**; the pixels travel by reference.

Each distinct picture of a call, and each video as it is seen, is decoded once, in threads, and its patches are put once
into Ray's object store: every request of a group and the group's pack carry the same handle, which the actors resolve.
The store drops the pixels when the last record with their handle is gone, so they live as long as the step that drew
them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import ray

from pangu_rl.data.conversations import Conversation
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.fields.columns import Columns
from pangu_rl.data.media.columns import named_media
from pangu_rl.data.media.views import View
from pangu_rl.data.packs.batching import PairRow
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.pairs import Pair
from pangu_rl.data.pictures import PictureFolder, file_digest, in_threads
from pangu_rl.errors import DataError
from pangu_rl.records import Picture, Prompt
from pretrain.processing.media_root import named
from pretrain.processing.video_source import named_video

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

    def portions(self, prompts: Sequence[Prompt], most: int) -> Iterator[list[Prompt]]:
        """`prompts` in order, as many in a portion as their distinct pictures have `most` patches together, by the
        headers; one whose own are more is a portion of its own. Raises as `PictureFolder.views`."""
        portion: list[Prompt] = []
        held: dict[View, int] = {}
        for prompt in prompts:
            own = {
                view: math.prod(picture.grid)
                for view, picture in zip(self.folder.views(prompt), self.folder.outlines(prompt), strict=True)
            }
            if portion and sum((held | own).values()) > most:
                yield portion
                portion, held = [], {}
            portion.append(prompt)
            held |= own
        if portion:
            yield portion

    def prompts(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        """One row per prompt, ready to be answered.

        Raises:
            DataError: a picture has changed or is gone since the audit.
        """
        shown = zip(prompts, self._shown(prompts), strict=True)
        return [self.encoder.prompt(row.messages, pictures, row.tools) for row, pictures in shown]

    def conversations(self, conversations: Sequence[Conversation]) -> list[TrainingRow]:
        """One row per conversation, its mask with it; raises as `prompts`."""
        shown = zip(conversations, self._shown(conversations), strict=True)
        return [self.encoder.conversation(row.messages, pictures, row.tools) for row, pictures in shown]

    def pairs(self, pairs: Sequence[Pair]) -> list[PairRow]:
        """One row per pair, without its reference; raises as `prompts`."""
        shown = zip(pairs, self._shown(pairs), strict=True)
        return [self.encoder.pair(row, pictures) for row, pictures in shown]

    def _shown(self, rows: Sequence[Prompt | Conversation | Pair]) -> list[list[Picture]]:
        """What each row shows, in the order of its places."""
        views = [self.folder.views(row) for row in rows]
        distinct = list(dict.fromkeys(chain(*views)))
        handles: dict[tuple[str, tuple[int, ...]], Any] = {}
        loaded: dict[View, Picture] = {}
        for view, picture in zip(distinct, in_threads(self._load, distinct), strict=True):
            pixels = picture.sha256, picture.grid
            if pixels not in handles:
                handles[pixels] = self._put(picture.patches)
            loaded[view] = dataclasses.replace(picture, patches=handles[pixels])
        return [[loaded[view] for view in of_row] for of_row in views]

    def _load(self, view: View) -> Picture:
        try:
            picture = self.folder.shown(view)
        except DataError as error:
            if view.path not in self.digests:
                raise
            raise DataError(f"{error}; it was sound when the run began: {WAY_OUT}") from None
        found = picture.sha256 if picture.clip is None else picture.clip.sha256
        if found != self.digests.get(view.path, found):
            name = named if picture.clip is None else named_video
            raise DataError(
                f"{name(view.path)} in {self.folder.root} has changed since the run began: sha256 was "
                f"{self.digests[view.path][:16]}, now {found[:16]}: {WAY_OUT}"
            )
        return picture


def picture_lines(data: Path, media_root: Path, renamed: Iterable[tuple[str, str]] = ()) -> Iterator[str]:
    """Path and digest of each picture and video that the rows of `data` name: by content, since sizes are alike among
    drawn pictures and times of change differ between copies of one folder. `renamed` are the pairs of
    `data.columns`."""
    paths = named_media(data, Columns(dict(renamed)))
    digests = in_threads(partial(file_digest, media_root=media_root), paths, "hashing pictures")
    return (f"{path}\t{digest}\n" for path, digest in zip(paths, digests, strict=True))
