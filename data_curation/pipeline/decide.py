"""A set operator decides: features on disk -> **decisions on disk**, a file for each block that has one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from data_curation.pipeline.folder import SCRATCH, Folder, write_json, write_lines
from data_curation.pipeline.operator import Features, Operator
from data_curation.pipeline.record import Verdict
from data_curation.pipeline.steps import Clock
from data_curation.pipeline.verdicts import checked_verdict, to_json
from data_curation.pipeline.work import BLOCK_BITS
from pangu_rl.errors import ConfigError, RunError, first_line
from rollout.export.catalogue import MEMORY_LIMIT, THREADS, literal


def decide(folder: Folder, stage: int, operator: Operator) -> None:
    """
    Raises:
        ConfigError: positions that do not grow, or something that is no verdict.
        RunError: DuckDB has no room.
    """
    clock = Clock()
    with TemporaryDirectory(dir=folder.stage(stage), prefix=SCRATCH) as scratch, duckdb.connect() as connection:
        features = _view(connection, folder, stage, Path(scratch))
        try:
            found = _in_order(operator, operator.function(features, **operator.settings))
            for block, group in groupby(found, key=lambda pair: pair[0] >> BLOCK_BITS):
                lines = ({"index": at % 2**BLOCK_BITS, "verdict": to_json(verdict)} for at, verdict in group)
                write_lines(folder.decisions(stage, block), lines)
        except duckdb.Error as error:
            raise RunError(
                f"operator {operator.name}: {first_line(error)}; {scratch} holds what memory does not"
            ) from None
    # As pairs, since JSON that is the same for equal trees sorts their keys.
    told = [list(row.items()) for row in features.told]
    write_json(folder.decided(stage), {"operator": operator.name, "told": told, **clock.times()})


def _view(connection: duckdb.DuckDBPyConnection, folder: Folder, stage: int, scratch: Path) -> Features:
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET temp_directory = {literal(str(scratch))}")
    connection.execute(f"SET threads = {min(THREADS, os.cpu_count() or 1)}; SET enable_progress_bar = false")
    blocks = sorted(folder.features(stage, 0).parent.glob("*.parquet"), key=lambda file: int(file.stem))
    files = tuple(map(str, blocks))
    connection.execute(f"CREATE VIEW features AS SELECT * FROM read_parquet([{', '.join(map(literal, files))}])")
    return Features(connection, scratch, files)


def _in_order(operator: Operator, found: Iterator[tuple[int, Verdict]]) -> Iterator[tuple[int, Verdict]]:
    last = -1
    for position, verdict in found:
        if position <= last:
            raise ConfigError(f"operator {operator.name}: position {position} behind {last}: yield them in their order")
        last = position
        yield position, checked_verdict(verdict, operator.name)
