"""A prepared folder appears whole or not at all, and rows are written to it as JSON lines."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pangu_rl.config.paths import cache_root
from pangu_rl.errors import ConfigError

Row = dict[str, Any]


@contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the name of `directory` when the block ends without an error, and the place of
    what an earlier version left there in the cache.

    Raises:
        ConfigError: a `directory` of the user's that holds something, or that cannot be written.
    """
    directory = directory.absolute()
    partial = directory.with_name(directory.name + ".partial")
    ours = directory.is_relative_to(cache_root().absolute())
    try:
        if not ours and directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(f"{directory}: holds something already: name a new folder")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}: name another folder") from None
    yield partial
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object per line, UTF-8; the same rows give the same bytes."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_report(path: Path, splits: Mapping[str, Sequence[Row]]) -> None:
    """How many rows of each source every split has."""
    report = {name: dict(sorted(Counter(row["source"] for row in rows).items())) for name, rows in splits.items()}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
