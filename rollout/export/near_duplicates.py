"""`--near-duplicates`: rows that say almost what an earlier one says. Table of positions -> **the table without them**.

Texts are sets of 5-character shingles, their likeness is the Jaccard index, estimated from 128 min-hashes (standard
error 0.03 at 0.9). Banded hashes find the candidates, so the work grows with the rows and not with their pairs; the
hashes lie in DuckDB, which moves them to disk. Of the rows that share a band, each is compared with the first.
"""

from __future__ import annotations

from typing import Literal

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


def drop_near_duplicates(catalogue: Catalogue, table: str, column: Column, likeness: float) -> None:
    """Delete from `table` (`position`, `scope`, ...) each row that is at least so like an earlier one of its scope."""
    catalogue.connection.execute("CREATE TABLE signatures (position BIGINT, scope UBIGINT, hashes UINTEGER[])")
    catalogue.connection.execute("CREATE TABLE bands (position BIGINT, scope UBIGINT, band UTINYINT, value UBIGINT)")
    alone = f"SELECT scope FROM {table} GROUP BY scope HAVING count(*) > 1"
    query = f"SELECT position, scope FROM {table} WHERE scope IN ({alone}) ORDER BY position"
    width = band_width(likeness)
    for _, selected, rows in in_order(catalogue, query, [column]):
        texts = rows[column].to_pylist()
        _add(catalogue, selected, signatures(list(map(prompt_text, texts)) if column == "messages" else texts), width)
    _compare(catalogue, likeness)
    catalogue.connection.execute(f"DELETE FROM {table} WHERE position IN (SELECT position FROM alike)")
    for made in ("signatures", "bands", "alike"):
        catalogue.connection.execute(f"DROP TABLE {made}")


def signatures(texts: list[str]) -> np.ndarray:
    """uint32 [N, PERMUTATIONS]; equal for texts that differ in nothing but spaces."""
    plain = [" ".join(text.split()) for text in texts]
    shingles = [[text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))] for text in plain]
    return np.array(RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, _SEED).to_rows(), dtype=np.uint32)


def band_width(likeness: float) -> int:
    """Hashes of a band: as many as still find a pair at the threshold with a chance of `RECALL`."""
    widths = [2**n for n in range(6)]
    return max((w for w in widths if 1 - (1 - likeness**w) ** (PERMUTATIONS // w) >= RECALL), default=1)


def _add(catalogue: Catalogue, selected: pa.Table, hashes: np.ndarray, width: int) -> None:
    positions, scopes = (selected[name].to_numpy() for name in ("position", "scope"))
    bands = PERMUTATIONS // width
    multipliers = np.random.default_rng(_SEED).integers(1, 2**63, size=width, dtype=np.uint64) | np.uint64(1)
    values = (hashes.reshape(len(hashes), bands, width).astype(np.uint64) * multipliers).sum(axis=2, dtype=np.uint64)
    banded = pa.table(
        {
            "position": np.repeat(positions, bands),
            "scope": np.repeat(scopes, bands),
            "band": np.tile(np.arange(bands, dtype=np.uint8), len(hashes)),
            "value": values.reshape(-1),
        }
    )
    listed = pa.FixedSizeListArray.from_arrays(pa.array(hashes.reshape(-1)), PERMUTATIONS)
    signed = pa.table({"position": positions, "scope": scopes, "hashes": listed.cast(pa.list_(pa.uint32()))})
    for table, rows in (("bands", banded), ("signatures", signed)):
        catalogue.connection.register("added", rows)
        catalogue.connection.execute(f"INSERT INTO {table} FROM added")
        catalogue.connection.unregister("added")


def _compare(catalogue: Catalogue, likeness: float) -> None:
    """Fill `alike` with the positions that are near the first of a band."""
    catalogue.connection.execute("CREATE TABLE alike (position BIGINT)")
    candidates = catalogue.connection.cursor().sql("""
        WITH firsts AS (
            SELECT scope, band, value, min(position) AS first FROM bands GROUP BY scope, band, value HAVING count(*) > 1
        ), pairs AS (
            SELECT DISTINCT position, first FROM bands JOIN firsts USING (scope, band, value) WHERE position > first
        )
        SELECT pairs.position, mine.hashes AS mine, theirs.hashes AS theirs
        FROM pairs JOIN signatures AS mine USING (position) JOIN signatures AS theirs ON theirs.position = first
    """)
    for batch in candidates.to_arrow_reader(_COMPARED):
        mine, theirs = (batch[name].flatten().to_numpy().reshape(-1, PERMUTATIONS) for name in ("mine", "theirs"))
        near = (mine == theirs).mean(axis=1) >= likeness
        catalogue.connection.register("added", pa.table({"position": batch["position"].to_numpy()[near]}))
        catalogue.connection.execute("INSERT INTO alike FROM added")
        catalogue.connection.unregister("added")
