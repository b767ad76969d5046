"""Columns of sizes as numbers, **each value checked**: a complaint names the first bad row with its values."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pangu_rl.errors import DataError
from pretrain.packing.cost import MAX_ASPECT, sampled_frames

OF_VIDEOS = ("frames", "duration", "fps")
MAX_SIDE = 65_535
"""What a JPEG can have."""
MAX_FRAMES = 1_000_000
MAX_TEXT = 2**31 - 1


class Columns:
    """The columns of the table that was read from `path`; every method raises `DataError`.

    `max_frames` is the most that a video given by duration and fps is sampled at.
    """

    def __init__(self, path: Path, table: pa.Table, max_frames: int, first: int = 0) -> None:
        """`first` rows of the file come before those of `table`."""
        self.path, self.first = path, first
        self.table = table
        self.max_frames = max_frames

    def ids(self) -> pa.Array:
        """Text or integers [N]."""
        ids = self._plain("id")
        if not (_is_text(ids.type) or pa.types.is_integer(ids.type)):
            raise DataError(f"{self.path}: column id holds {ids.type}, not text or whole numbers")
        self.refuse(ids.is_null().to_numpy(zero_copy_only=False), "text_tokens", "has no id")
        return ids

    def sources(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """(int32 index [N], names); a missing column or a null is the source ""."""
        if "source" not in self.table.column_names:
            return np.zeros(len(self.table), dtype=np.int32), ("",)
        source = self._plain("source")
        if not _is_text(source.type):
            raise DataError(f"{self.path}: column source holds {source.type}, not text")
        encoded = pc.fill_null(source, "").dictionary_encode()
        return encoded.indices.to_numpy(zero_copy_only=False), tuple(encoded.dictionary.to_pylist())

    def text_tokens(self) -> np.ndarray:
        """int64 [N]"""
        values, counts = self._numbers("text_tokens")
        self.refuse(counts != 1, "text_tokens", "must have one number")
        self.refuse(~_whole(values, MAX_TEXT), "text_tokens", f"must be a whole number from 0 to {MAX_TEXT}")
        self.refuse(self.table["text_tokens"].is_null().to_numpy(), "text_tokens", "must not be null")
        return values.astype(np.int64)

    def pictures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(row, width, height, frames) int64 [K] of all pictures and videos; a still picture has 0 frames."""
        width, counts = self._numbers("width")
        height, others = self._numbers("height")
        self.refuse(counts != others, "width height", "must be as many widths as heights")
        row = np.repeat(np.arange(len(counts)), counts)
        for name, values in (("width", width), ("height", height)):
            self._refuse_some(row, ~_whole(values, MAX_SIDE), name, f"must be whole numbers from 0 to {MAX_SIDE}")
        self._refuse_some(row, (width > 0) != (height > 0), "width height", "must both be 0 or neither")
        longer, shorter = np.maximum(width, height), np.minimum(width, height)
        self._refuse_some(row, longer > MAX_ASPECT * shorter, "width height", f"differ by more than {MAX_ASPECT} times")
        frames = self._frames(row, counts, width > 0)
        self._refuse_some(row, (frames > 0) & (width == 0), "width height", "must be those of the video's frames")
        there = width > 0
        return tuple(values[there].astype(np.int64) for values in (row, width, height, frames))

    def _frames(self, row: np.ndarray, counts: np.ndarray, there: np.ndarray) -> np.ndarray:
        """int64 [K], also of the empty places of rows without pictures, which may have a rate: those that are not
        `there`."""
        frames, duration, fps = (self._of_pictures(name, counts) for name in OF_VIDEOS)
        self._refuse_some(row, ~_whole(frames, MAX_FRAMES), "frames", f"must be whole numbers from 0 to {MAX_FRAMES}")
        for name, values in (("duration", duration), ("fps", fps)):
            self._refuse_some(row, ~(np.isfinite(values) & (values >= 0)), name, "must be numbers from 0")
        sampled = frames == 0
        self._refuse_some(row, sampled & (duration > 0) & (fps == 0), "duration fps", "needs the fps to sample at")
        endless = sampled & (duration * fps >= MAX_FRAMES)
        self._refuse_some(row, endless, "duration fps", f"are over {MAX_FRAMES} frames")
        return np.where(sampled & (there | (duration > 0)), sampled_frames(duration, fps, self.max_frames), frames)

    def _of_pictures(self, name: str, counts: np.ndarray) -> np.ndarray:
        """A video column with one value for each picture; a row of pictures may have 0, null or an empty list."""
        if name not in self.table.column_names:
            return np.zeros(counts.sum())
        values, own = self._numbers(name)
        row = np.repeat(np.arange(len(own)), own)
        given = np.bincount(row, weights=values != 0, minlength=len(own)) > 0
        fits = own == counts
        self.refuse(given & ~fits, f"width {name}", f"must be as many {name} as widths")
        aligned = np.zeros(counts.sum())
        aligned[np.repeat(fits, counts)] = values[np.repeat(fits, own)]
        return aligned

    def _numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(float64 values of all rows end to end, number of values [N]); null is 0, a null list has none."""
        array = self._plain(name)
        if hasattr(array.type, "value_type"):
            counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
            array = array.flatten()
        else:
            counts = np.ones(len(array), dtype=np.int64)
        if pa.types.is_null(array.type):
            return np.zeros(len(array)), counts
        if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
            raise DataError(f"{self.path}: column {name} holds {array.type}, not numbers")
        values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
        return values.astype(np.float64), counts

    def _plain(self, name: str) -> pa.Array:
        array = self.table[name].combine_chunks()
        return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array

    def refuse(self, bad: np.ndarray, names: str, reason: str) -> None:
        """Raise for the first row that is `bad` [N], with its values of the columns `names`."""
        if bad.any():
            self._complain(int(np.argmax(bad)), int(bad.sum()), names, reason)

    def _refuse_some(self, row: np.ndarray, bad: np.ndarray, names: str, reason: str) -> None:
        """As `refuse`, for `bad` [K] over pictures."""
        if bad.any():
            self._complain(int(row[np.argmax(bad)]), len(np.unique(row[bad])), names, reason)

    def _complain(self, row: int, rows: int, names: str, reason: str) -> NoReturn:
        there = (name for name in dict.fromkeys(("id", *names.split())) if name in self.table.column_names)
        given = {name: _short(self.table[name][row].as_py()) for name in there}
        values = ", ".join(f"{name} {value}" for name, value in given.items())
        others = f" ({rows - 1} more rows like it)" if rows > 1 else ""
        raise DataError(f"{self.path}, row {self.first + row + 1}: {values}: {reason}{others}")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _whole(values: np.ndarray, greatest: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (values >= 0) & (values <= greatest) & (values == np.floor(values))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
