"""A Parquet file of sizes -> **what each sample costs**: checked, counted, and without a path to any picture.

Columns: `id` (text or whole numbers), `text_tokens`, `width` and `height` (a number, or a list with one for each
picture; 0, null or empty for none), optional `source`, and for videos `frames`, or `duration` in seconds with the `fps`
to sample at; what has a size and neither frames nor `fps` (0 or null) is a still picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import DataError
from pretrain.packing.columns import OF_VIDEOS, Columns
from pretrain.packing.cost import OPENPANGU_VIT, PATCHES_PER_TOKEN, tokens_of_frame, tokens_of_video_frame

NEEDED = ("id", "text_tokens", "width", "height")
VIDEO_SEED = b"video_seed"
"""Of the file's own metadata."""
MARKS = 2
"""The tokens that open and close a picture or video; between two frames stand two more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The samples of one file, or of a piece of it; arrays are [N], in its order."""

    name: str
    sha256: str
    """Of the file's bytes."""
    video_seed: int | None = None
    """As `video_seed_of` has it; not of a piece."""
    numbers: np.ndarray
    """int64, rows of the file, ascending."""
    ids: pa.Array
    """No two alike."""
    source: np.ndarray
    """int32, index into `sources`."""
    sources: tuple[str, ...]
    tokens: np.ndarray
    """int64: text, pictures and the marks around them."""
    visual_tokens: np.ndarray
    """int64: those that the encoder fills."""
    visual_flops: np.ndarray
    """float64, forward."""

    def __len__(self) -> int:
        return len(self.tokens)


def read_metadata(path: Path, config: PackingConfig) -> Metadata:
    """Read and check `path`; `config` limits the pixels of still pictures and of videos, and the frames of these.

    Raises:
        DataError: no Parquet file, a missing column, or the first row that cannot be, with its values.
    """
    columns = Columns(path, read_rows(path), config.max_frames)
    ids = columns.ids()
    numbers = np.arange(len(ids))
    require_distinct(ids, numbers, path)
    source, sources = columns.sources()
    tokens, visual_tokens, visual_flops = costs(columns, config)
    return Metadata(
        name=path.name,
        sha256=file_sha256(path),
        video_seed=video_seed_of(path),
        numbers=numbers,
        ids=ids,
        source=source,
        sources=sources,
        tokens=tokens,
        visual_tokens=visual_tokens,
        visual_flops=visual_flops,
    )


def require_distinct(ids: pa.Array, numbers: np.ndarray, path: Path) -> None:
    """`ids` [N] of rows with these `numbers`, ascending.

    Raises:
        DataError: two are alike.
    """
    if pc.count_distinct(ids).as_py() != len(ids):
        first = np.unique(ids.to_numpy(zero_copy_only=False).astype(str), return_index=True)[1]
        repeated = np.setdiff1d(np.arange(len(ids)), first)
        others = f" ({len(repeated) - 1} more rows like it)" if len(repeated) > 1 else ""
        row, uid = numbers[repeated[0]] + 1, ids[int(repeated[0])].as_py()
        raise DataError(f"{path}, row {row}: id {uid!r}: repeats the id of an earlier row{others}")


def file_sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def group_rows(path: Path) -> list[int]:
    """How many rows each row group of the file has.

    Raises:
        DataError: no Parquet file, a missing column, or no rows.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; --metadata is a Parquet file")
    with _readable(path), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if missing := [name for name in NEEDED if name not in names]:
            raise DataError(f"{path}: column {missing[0]} is missing; it has {', '.join(names)}")
        rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    if not sum(rows):
        raise DataError(f"{path}: has no rows")
    return rows


def read_rows(path: Path, groups: Sequence[int] | None = None) -> pa.Table:
    """The columns that are used, of some row groups or of all; raises as `group_rows`."""
    every = range(len(group_rows(path)))
    with _readable(path), pq.ParquetFile(path) as file:
        wanted = [name for name in (*NEEDED, *OF_VIDEOS, "source") if name in file.schema_arrow.names]
        return file.read_row_groups(list(every if groups is None else groups), columns=wanted)


def video_seed_of(path: Path) -> int | None:
    """The seed that drew how many frames the videos of `path` are shown with, where it says so."""
    with _readable(path):
        said = pq.read_metadata(path).metadata.get(VIDEO_SEED)
    return None if said is None else int(said)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.lib.ArrowException, OSError) as error:
        raise DataError(f"{path}: no Parquet file that can be read: {str(error).splitlines()[0]}") from None


def costs(columns: Columns, config: PackingConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, visual tokens and encoder FLOPs [N]."""
    text = columns.text_tokens()
    row, width, height, frames = columns.pictures()
    budget = {"total": config.video_pixels, "least": config.frame_min_pixels, "most": config.frame_max_pixels}
    video = frames > 0
    shown = np.maximum(frames, 1)
    rows = len(text)
    frames_of_sample = np.bincount(row, weights=frames, minlength=rows).astype(np.int64)
    per_frame = np.empty(len(row), dtype=np.int64)
    per_frame[~video] = tokens_of_frame(height[~video], width[~video], config.min_pixels, config.max_pixels)
    per_frame[video] = tokens_of_video_frame(height[video], width[video], frames_of_sample[row[video]], **budget)
    flops = OPENPANGU_VIT.flops(PATCHES_PER_TOKEN * per_frame, shown)
    visual_tokens = np.bincount(row, weights=per_frame * shown, minlength=rows).astype(np.int64)
    marks = np.bincount(row, weights=MARKS * shown, minlength=rows).astype(np.int64)
    tokens = text + visual_tokens + marks
    columns.refuse(tokens == 0, "id", "has neither text nor pictures")
    return tokens, visual_tokens, np.bincount(row, weights=flops, minlength=rows)
