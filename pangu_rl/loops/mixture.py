"""The files and sources of a stage -> **the rows of an epoch**, as `data.also` and `data.shares` say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pangu_rl.config.sections.rows import TrainedRowsConfig
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.formats.mixture import by_shares, mixed, named_by_file
from pangu_rl.loops.pictures import RowLoader

T = TypeVar("T")


def mixture(data: TrainedRowsConfig, load: Callable[[str], Loaded[T]]) -> Loaded[T]:
    """The rows of `data.train` and `data.also` by the files' weights."""
    parts = [(load(data.train), 1.0), *((load(file.path), file.weight) for file in data.also)]
    return mixed([(named_by_file(part), weight) for part, weight in parts] if data.shares else parts)


def shared(loaded: Loaded[T], data: TrainedRowsConfig, sizes: Mapping[str, int], loader: RowLoader) -> Loaded[T]:
    """By `data.shares`, of the samples or of their `sizes`; how often each source comes joins the loader's notes.

    Raises:
        ConfigError: shares that are not those of the rows' sources.
    """
    by_tokens = data.shares_by == "tokens"
    rows = by_shares(loaded, data.shares, (lambda row: sizes[row.uid]) if by_tokens else lambda row: 1)
    loader.notes += tuple(rows.notes[len(loaded.notes) :])
    return rows
