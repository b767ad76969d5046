"""Rows -> **their sizes, as `pangu-rl pack` reads them**, from texts and headers of pictures; none is decoded."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.row_file import open_rows
from pangu_rl.errors import DataError
from pretrain.processing.pictures import picture_size
from pretrain.train.loader import PackLoader

log = logging.getLogger(__name__)
MARKS = 2
"""The tokens that open and close a picture, which the planner adds itself."""
ROWS = 4096
"""Rows of a row group."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text_tokens", pa.int64()),
        ("width", pa.list_(pa.int64())),
        ("height", pa.list_(pa.int64())),
        ("source", pa.string()),
    ]
)


def write_sizes(config: PretrainConfig, output: Path) -> int:
    """Measure the rows of `data.train` into the Parquet file `output`; returns how many it has.

    Raises:
        DataError: a row that cannot be used, unless `data.on_bad_row` skips it; no usable row; or a folder that cannot
            be written.
    """
    files = open_rows(resolve_path(config.data.train), on_bad_row=config.data.on_bad_row)
    loader = PackLoader(config, files)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    written = 0
    try:
        with pq.ParquetWriter(partial, SCHEMA) as writer:
            rows: list[dict] = []
            for row in _sizes(loader):
                rows.append(row)
                if len(rows) == ROWS:
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                    written, rows = written + len(rows), []
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                written += len(rows)
        if not written:
            raise DataError(f"{files.path}: no usable row among {len(files)}")
        os.replace(partial, output)
    except OSError as error:
        raise DataError(f"{output}: {error.strerror or error}; --measure is a file to write") from None
    finally:
        partial.unlink(missing_ok=True)
    return written


def _sizes(loader: PackLoader) -> Iterator[dict]:
    console = Console(stderr=True)
    for line in loader.files.skipped:
        console.print(f"left out: {line}", markup=False, highlight=False)
    for index in track(range(len(loader.files)), "measuring", console=console, disable=not console.is_terminal):
        try:
            tokens, grids = loader.sizes(index)
        except DataError as error:
            if not loader.skips:
                raise DataError(f"{error} (mend it, or set data.on_bad_row to skip)") from None
            console.print(f"left out: {error}", markup=False, highlight=False)
            continue
        images = loader.files.read(index).images
        sizes = [picture_size(path, loader.folder.root) for path in images]
        shown = sum(rows * columns // 4 + MARKS for _, rows, columns in grids)
        yield {
            "id": loader.files.uids[index],
            "text_tokens": tokens - shown,
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "source": loader.files.sources[index],
        }
