"""The rollouts of several runs as one SQL table. Run folders -> **a DuckDB connection with the view `rollouts`**.

The view has the store's columns, and besides:

| | |
|---|---|
| `run` | the name of the run's folder |
| `position` | of the row in the order of export: runs as they were named, steps, then as the shards have them |
| `score` | map from the name of a reward part to its value, so `score['boxed_accuracy'] >= 1` |
| `response_tokens`, `prompt_tokens` | lengths |

It is made before the connection is locked: after that no SQL reaches a file, the network, or a setting.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pangu_rl.errors import DataError
from rollout.footers import footer
from rollout.reading import reading, require_run, unchanged
from rollout.schema import SCHEMA
from rollout.shards import Shard
from rollout.store import RolloutStore

MEMORY_LIMIT = "128MiB"
"""Of DuckDB; what does not fit goes to the scratch folder."""
THREADS = 4
"""At most, since each wants a share of the memory."""
EXTRA_COLUMNS = ("score", "response_tokens", "prompt_tokens")


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A shard with the place of its rows among all."""

    run: str
    rollouts: Path
    """The folder that `images` paths are relative to."""
    shard: Shard
    start: int
    rows: int


@dataclass(frozen=True)
class Catalogue:
    """The rollouts of the named runs."""

    shards: tuple[StoredShard, ...]
    connection: duckdb.DuckDBPyConnection
    scratch: Path
    """A folder for what memory does not hold."""

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the reward parts that rows have, of which all are read for it."""
        return tuple(
            name for (name,) in self.all("SELECT DISTINCT unnest(parts).name AS name FROM rollouts ORDER BY name")
        )

    @property
    def rows(self) -> int:
        return self.shards[-1].start + self.shards[-1].rows

    def one(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The only row of the result."""
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return row

    def all(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query).fetchall()


_ABSENT = {"videos": "STRUCT(path VARCHAR, sha256 VARCHAR, original VARCHAR, seconds FLOAT[])[]"}
"""Types of columns that no shard has, of those that are no text."""


@contextmanager
def open_catalogue(runs: Sequence[Path], scratch: Path) -> Iterator[Catalogue]:
    """The rollouts of `runs` in this order; `scratch` is a folder for what memory does not hold.

    Raises:
        DataError: no such run, no rollouts, a shard of a newer schema or a broken one, the same rollouts twice; at the
            end, rows that were replaced meanwhile; no room in `scratch`.
    """
    with ExitStack() as stack:
        shards = _stored_shards(runs, stack)
        stack.enter_context(unchanged([stored.shard for stored in shards]))
        connection = stack.enter_context(duckdb.connect())
        try:
            _prepare(connection, shards, scratch)
            yield Catalogue(shards, connection, scratch)
        except (duckdb.Error, pa.ArrowException) as error:
            line = " ".join(str(error).split())[:300]
            if isinstance(error, duckdb.OutOfMemoryException) or "No space left" in line:
                raise DataError(f"{scratch}: {line}; it holds what memory does not: make room there") from None
            raise DataError(f"the rollouts cannot be read: {line}") from None


@contextmanager
def scratch_catalogue(runs: Sequence[Path]) -> Iterator[Catalogue]:
    """`open_catalogue` with a scratch folder of its own, for what writes nothing."""
    with tempfile.TemporaryDirectory(prefix="pangu_rl_") as scratch, open_catalogue(runs, Path(scratch)) as made:
        yield made


def _stored_shards(runs: Sequence[Path], stack: ExitStack) -> tuple[StoredShard, ...]:
    stored: list[StoredShard] = []
    start = 0
    for run, label in _labelled(runs):
        require_run(run)
        store = RolloutStore(run)
        stack.enter_context(reading(store.directory))
        for shard in store.shards():
            rows = footer(shard.path).rows
            stored.append(StoredShard(label, store.directory, shard, start, rows))
            start += rows
    return tuple(stored)


def _labelled(runs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each run with the name that its rows get: that of its folder, numbered where another has it too."""
    resolved = [run.resolve() for run in runs]
    for run, path in zip(runs, resolved, strict=True):
        if resolved.count(path) > 1:
            raise DataError(f"{run}: named twice, its rollouts would be taken twice")
    seen: Counter[str] = Counter()
    for run, path in zip(runs, resolved, strict=True):
        seen[path.name] += 1
        yield run, path.name if seen[path.name] == 1 else f"{path.name}~{seen[path.name]}"


def _prepare(connection: duckdb.DuckDBPyConnection, shards: Sequence[StoredShard], scratch: Path) -> None:
    # DuckDB opens and keeps every file to unite schemas: only where there are several.
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET temp_directory = {literal(str(scratch.resolve()))}")
    connection.execute(f"SET threads = {min(THREADS, os.cpu_count() or 1)}")
    connection.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
    schemas = {footer(stored.shard.path).schema for stored in shards}
    paths = ", ".join(literal(str(stored.shard.path.resolve())) for stored in shards)
    labels = ", ".join(literal(stored.run) for stored in shards)
    starts = ", ".join(str(stored.start) for stored in shards)
    connection.execute(f"""
        CREATE VIEW rollouts AS
        SELECT {_columns(schemas)},
            [{labels}][file_index::BIGINT + 1] AS run,
            [{starts}][file_index::BIGINT + 1] + file_row_number AS position,
            map_from_entries(list_transform(parts, lambda part: {{'k': part.name, 'v': part.value}})) AS score,
            len(token_ids) AS response_tokens,
            len(prompt_token_ids) AS prompt_tokens
        FROM read_parquet([{paths}], union_by_name = {len(schemas) > 1})
    """)
    connection.execute(f"SET allowed_paths = [{paths}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


def _columns(schemas: Iterable[pa.Schema]) -> str:
    """The columns of the newest schema but `run`; null for one that no shard has."""
    found = {name for schema in schemas for name in schema.names}
    return ", ".join(
        f'"{name}"' if name in found else f'NULL::{_ABSENT.get(name, "VARCHAR")} AS "{name}"'
        for name in SCHEMA.names
        if name != "run"
    )


def literal(text: str) -> str:
    """As SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
