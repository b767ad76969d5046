"""Rows -> **their sizes, as `pangu-rl pack` reads them**, from texts and headers of media; nothing is decoded."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from pangu_rl.cluster.ranges import ranges_of, tables_of
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.files.row_files import RowFiles, open_rows
from pangu_rl.errors import DataError
from pangu_rl.whole_file import whole_file
from pretrain.packing.metadata import VIDEO_SEED
from pretrain.train.loader import PackLoader, require_plannable

log = logging.getLogger(__name__)
MARKS = 2
"""The tokens that open and close a picture or a frame, which the planner adds itself."""
GROUP = 65_536
"""Rows of a row group of the file, at least."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text_tokens", pa.int64()),
        ("width", pa.list_(pa.int64())),
        ("height", pa.list_(pa.int64())),
        ("frames", pa.list_(pa.int64())),
        ("duration", pa.list_(pa.float64())),
        ("source", pa.string()),
    ]
)
PROBLEM = "problem"
"""Column of what is wrong with a row, null for a sound one; it stays out of the file."""


def write_sizes(config: PretrainConfig, output: Path, workers: int = 1) -> int:
    """Measure the rows of `data.train` into the Parquet file `output`; returns how many it has.

    With several `workers` over Ray Data, on as many CPUs of `cluster`; the file is the same.

    Raises:
        DataError: a row that cannot be used, unless `data.on_bad_row` skips it; no usable row; or a folder that cannot
            be written.
        UserError, RunError: as `tables_of`.
    """
    data = config.data
    files = open_rows(
        data.row_paths(), on_bad_row=data.on_bad_row, media_root=data.media_path(), passed=data.pass_through
    )
    console = Console(stderr=True)
    for line in files.skipped:
        console.print(f"left out: {line}", markup=False, highlight=False)
    written, videos = 0, False
    tables = tables_of(partial(Measure, config, files), len(files), config.cluster, workers)
    shown = track(
        tables, "measuring", total=len(ranges_of(len(files))), console=console, disable=not console.is_terminal
    )
    try:
        with whole_file(output) as partial_output:
            with pq.ParquetWriter(partial_output, SCHEMA) as writer:
                waiting: list[pa.Table] = []
                for table in shown:
                    waiting.append(_sound(table, config, console))
                    videos = videos or any(table["frames"].to_pylist())
                    if sum(map(len, waiting)) >= GROUP:
                        written += _write(writer, waiting)
                written += _write(writer, waiting)
                if videos:
                    writer.add_key_value_metadata({VIDEO_SEED: str(config.trainer.seed)})
            if not written:
                raise DataError(f"{files.name}: no usable row among {len(files)}")
    except OSError as error:
        raise DataError(f"{output}: {error.strerror or error}; --measure is a file to write") from None
    return written


class Measure:
    """Row numbers -> a table of `SCHEMA` and `PROBLEM`."""

    def __init__(self, config: PretrainConfig, files: RowFiles) -> None:
        """
        Raises:
            UserError: as `PackLoader`, or a family whose pictures plans do not know.
        """
        self._loader = PackLoader(config, files)
        require_plannable(self._loader.encoder.family)

    def __call__(self, rows: range) -> pa.Table:
        """A row that cannot be used has a problem in place of sizes.

        Raises:
            ConfigError: it needs what the configuration lacks.
        """
        schema = SCHEMA.append(pa.field(PROBLEM, pa.string()))
        return pa.Table.from_pylist([self._row(index) for index in rows], schema)

    def _row(self, index: int) -> dict:
        loader = self._loader
        try:
            tokens, grids, files = loader.sizes(index)
        except DataError as error:
            return {PROBLEM: str(error)}
        videos = any(frames for *_, frames, _ in files)
        shown = sum(frames * (rows * columns // 4 + MARKS) for frames, rows, columns in grids)
        return {
            "id": loader.files.uid(index),
            "text_tokens": tokens - shown,
            "width": [width for width, *_ in files],
            "height": [height for _, height, *_ in files],
            "frames": [frames for *_, frames, _ in files] if videos else [],
            "duration": [seconds for *_, seconds in files] if videos else [],
            "source": loader.files.source(index),
        }


def _sound(table: pa.Table, config: PretrainConfig, console: Console) -> pa.Table:
    """The rows without a problem; the others are refused or named."""
    problems = table[PROBLEM].drop_null().to_pylist()
    if problems and config.data.on_bad_row == "refuse":
        raise DataError(f"{problems[0]} (mend it, or set data.on_bad_row to skip)")
    for problem in problems:
        console.print(f"left out: {problem}", markup=False, highlight=False)
    return table.filter(table[PROBLEM].is_null()).drop_columns([PROBLEM]) if problems else table.drop_columns([PROBLEM])


def _write(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> int:
    """Write what waits as one row group, and empty it; returns its rows."""
    rows = sum(map(len, waiting))
    if rows:
        writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
    waiting.clear()
    return rows
