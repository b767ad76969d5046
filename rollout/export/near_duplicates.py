"""`--near-duplicates`: rows that say almost what an earlier one says. Table of positions -> **the table without them**.

Texts are sets of 5-character shingles, their likeness is the Jaccard index, estimated from 128 min-hashes (standard
error 0.03 at 0.9). Banded hashes find the candidates, so the work grows with the rows and not with their pairs. Bands
lie in DuckDB, which moves them to disk, the hashes in a file. Of the rows that share a band, each is compared with the
first.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal, Protocol

import duckdb
import numpy as np
import pyarrow as pa
from rensa import RMinHash

from rollout.export.catalogue import Catalogue
from rollout.export.conversation import prompt_text
from rollout.export.stream import in_order

SHINGLE = 5
PERMUTATIONS = 128
RECALL = 0.95
"""Least chance that two texts exactly at the threshold share a band."""
_SEED = 20
_COMPARED = 4096
"""Pairs of signatures that are compared at once."""


Column = Literal["text", "messages"]
"""What is compared."""


class Workspace(Protocol):
    """Where bands and pairs lie: a catalogue of rollouts, or the features of a pipeline of curation."""

    @property
    def connection(self) -> duckdb.DuckDBPyConnection: ...

    @property
    def scratch(self) -> Path: ...


def drop_near_duplicates(catalogue: Catalogue, table: str, column: Column, likeness: float) -> None:
    """Delete from `table` (`position`, `scope`, ...) each row that is at least so like an earlier one of its scope."""
    connection = catalogue.connection
    create_bands(catalogue)
    alone = f"SELECT scope FROM {table} GROUP BY scope HAVING count(*) > 1"
    query = f"SELECT position, scope FROM {table} WHERE scope IN ({alone}) ORDER BY position"
    width = band_width(likeness)
    number = 0
    with TemporaryFile(dir=catalogue.scratch) as signed:
        for _, selected, rows in in_order(catalogue, query, [column]):
            texts = rows[column].to_pylist()
            hashes = signatures(list(map(prompt_text, texts)) if column == "messages" else texts)
            signed.write(hashes.tobytes())
            add_bands(catalogue, number, selected, hashes, width)
            number += len(hashes)
        signed.flush()
        compare(catalogue, signed, number, likeness)
    connection.execute(f"DELETE FROM {table} WHERE position IN (SELECT position FROM alike)")
    for made in ("bands", "alike"):
        connection.execute(f"DROP TABLE {made}")


def signatures(texts: list[str]) -> np.ndarray:
    """uint32 [N, PERMUTATIONS]; equal for texts that differ in nothing but spaces."""
    plain = [" ".join(text.split()) for text in texts]
    shingles = [[text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))] for text in plain]
    return np.array(RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, _SEED).to_rows(), dtype=np.uint32)


def band_width(likeness: float) -> int:
    """Hashes of a band: as many as still find a pair at the threshold with a chance of `RECALL`."""
    widths = [2**n for n in range(6)]
    return max((w for w in widths if 1 - (1 - likeness**w) ** (PERMUTATIONS // w) >= RECALL), default=1)


def create_bands(workspace: Workspace) -> None:
    """The table that `add_bands` fills."""
    workspace.connection.execute("CREATE TABLE bands (number UINTEGER, position BIGINT, band UBIGINT)")


def candidates(workspace: Workspace) -> duckdb.DuckDBPyRelation:
    """Pairs to compare (`position` and `number` of a row, `first`): a row has at most as many as it has bands."""
    return workspace.connection.cursor().sql("""
        WITH firsts AS (SELECT band, min(number) AS first FROM bands GROUP BY band HAVING count(*) > 1)
        SELECT DISTINCT position, number, first FROM bands JOIN firsts USING (band) WHERE number > first
        ORDER BY number, first
    """)


def add_bands(workspace: Workspace, number: int, selected: pa.Table, hashes: np.ndarray, width: int) -> None:
    """Of rows from `number` on, whose `position` and `scope` are `selected`; `hashes` is uint32 [N, PERMUTATIONS].

    A band is known by one word, in which scope, place and hashes are mixed.
    """
    count, bands = len(hashes), PERMUTATIONS // width
    mixed = np.random.default_rng(_SEED).integers(1, 2**63, size=width + 2, dtype=np.uint64) | np.uint64(1)
    values = (hashes.reshape(count, bands, width).astype(np.uint64) * mixed[:width]).sum(axis=2, dtype=np.uint64)
    values += (
        selected["scope"].to_numpy()[:, None] * mixed[width] + np.arange(bands, dtype=np.uint64) * mixed[width + 1]
    )
    columns = {
        "number": np.repeat(np.arange(number, number + count, dtype=np.uint32), bands),
        "position": np.repeat(selected["position"].to_numpy(), bands),
        "band": values.reshape(-1),
    }
    _insert(workspace, "bands", columns)


def compare(workspace: Workspace, signed: IO[bytes], count: int, likeness: float) -> None:
    """Fill `alike` with the positions that are near the first of a band, and the number of that row.

    `signed` holds the signatures of `count` rows, by number.
    """
    workspace.connection.execute("CREATE TABLE alike (position BIGINT, first UINTEGER, likeness FLOAT)")
    for batch in candidates(workspace).to_arrow_reader(_COMPARED):
        # Mapped anew for each batch: pages of the last one are not kept.
        stored = np.memmap(signed, np.uint32, "r", shape=(count, PERMUTATIONS))
        share = (stored[batch["number"].to_numpy()] == stored[batch["first"].to_numpy()]).mean(axis=1)
        near = share >= likeness
        found = {name: batch[name].to_numpy()[near] for name in ("position", "first")}
        _insert(workspace, "alike", found | {"likeness": share[near].astype(np.float32)})


def _insert(workspace: Workspace, table: str, columns: dict[str, np.ndarray]) -> None:
    workspace.connection.register("added", pa.table(columns))
    workspace.connection.execute(f"INSERT INTO {table} FROM added")
    workspace.connection.unregister("added")
