"""`pangu-rl index`: files of rows -> **their index**, and what it holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.data.index.build import build_index
from pangu_rl.data.index.files import row_files
from pangu_rl.data.index.opening import automatic_folder
from pangu_rl.data.index.row_index import RowIndex
from pangu_rl.errors import DataError

NAMED = 20
"""Rows left out that are shown; the manifest has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the command says at its end."""

    index: RowIndex
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        manifest = self.index.manifest
        bytes_of_index = sum(file.stat().st_size for file in self.index.folder.iterdir())
        return {
            "rows": len(self.index),
            "left_out": manifest.left_out,
            "files": len(manifest.files),
            "shards": len(manifest.shards),
            "sources": self.index.sources,
            "digest": manifest.digest,
            "bytes": bytes_of_index,
            "seconds": round(self.seconds, 3),
            "output": str(self.index.folder),
        }

    def __str__(self) -> str:
        found = self.as_dict()
        per_row = found["bytes"] / max(1, found["rows"])
        return (
            f"{found['output']}: {found['rows']} rows of {found['files']} files in {self.seconds:.1f} s, "
            f"{per_row:.0f} bytes each; {found['left_out']} rows left out"
        )


def write_index(sources: Sequence[Path], output: Path | None, media_root: Path | None, workers: int) -> Summary:
    """Index `sources` into the folder `output`, or where stages look for it; notes on stderr name what is left out.

    Raises:
        DataError: no row can be used, `output` holds something else; as `row_files` and `build_index`.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = time.perf_counter()
    with console.status("indexing"):
        folder = output or automatic_folder(sources, media_root)
        index = build_index(row_files(sources), folder, media_root, workers)
    problems = index.manifest.problems
    for problem in problems[:NAMED]:
        console.print(f"left out: {index.named(problem)}", markup=False)
    if (more := index.manifest.left_out - NAMED) > 0:
        console.print(f"left out: {more} more rows; the first {len(problems)} are in the manifest", markup=False)
    if not len(index):
        raise DataError(f"{index.paths[0]}: no usable row among {index.manifest.left_out}")
    return Summary(index=index, seconds=time.perf_counter() - started)
