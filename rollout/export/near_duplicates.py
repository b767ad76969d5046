"""`--near-duplicates`: rows that say almost what an earlier one says. Table of positions -> **the table without them**.

Texts are sets of 5-character shingles, their likeness is the Jaccard index, estimated from 128 min-hashes (standard
error 0.03 at 0.9). Banded hashes find the candidates (`shared_bands.py`), so the work grows with the rows and not with
their pairs; the hashes lie in a file. Of the rows that share a band, each is compared with the first.
"""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import IO, Literal

import numpy as np
import pyarrow as pa
from rensa import RMinHash

from rollout.export.catalogue import Catalogue
from rollout.export.conversation import prompt_text
from rollout.export.shared_bands import SharedBands, Workspace, add_alike, create_alike
from rollout.export.stream import in_order

SHINGLE = 5
PERMUTATIONS = 128
RECALL = 0.95
"""Least chance that two texts exactly at the threshold share a band."""
_SEED = 20
_ODD = np.random.default_rng(_SEED).integers(1, 2**63, size=SHINGLE + 1, dtype=np.uint64) | np.uint64(1)
_SIGNED = np.dtype([("position", np.int64), ("hashes", np.uint32, PERMUTATIONS)])

Column = Literal["text", "messages"]
"""What is compared."""


def drop_near_duplicates(catalogue: Catalogue, table: str, column: Column, likeness: float) -> None:
    """Delete from `table` (`position`, `scope`, ...) each row that is at least so like an earlier one of its scope."""
    alone = f"SELECT scope FROM {table} GROUP BY scope HAVING count(*) > 1"
    query = f"SELECT position, scope FROM {table} WHERE scope IN ({alone}) ORDER BY position"
    (rows,) = catalogue.one(f"SELECT count(*) FROM ({query})")
    with TemporaryFile(dir=catalogue.scratch) as file:
        signed = Signed(catalogue, file, rows, likeness)
        for _, selected, rows in in_order(catalogue, query, [column]):
            texts = rows[column].to_pylist()
            signed.add(selected, signatures(list(map(prompt_text, texts)) if column == "messages" else texts))
        signed.compare()
    catalogue.connection.execute(f"DELETE FROM {table} WHERE position IN (SELECT position FROM alike)")
    catalogue.connection.execute("DROP TABLE alike")


def signatures(texts: list[str]) -> np.ndarray:
    """uint32 [N, PERMUTATIONS]; equal for texts that differ in nothing but spaces."""
    hashes = [_shingles(" ".join(text.split())) for text in texts]
    ends = np.cumsum([0, *map(len, hashes)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), ends, PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _shingles(text: str) -> np.ndarray:
    """uint64: a hash of each, a fifth of the work of cutting them out. A shorter text is one shingle."""
    encoded = text.ljust(SHINGLE, "\0").encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(encoded, np.uint32).astype(np.uint64)
    count = len(characters) - SHINGLE + 1
    mixed = sum(characters[place : place + count] * odd for place, odd in enumerate(_ODD[:-1]))
    return ((mixed >> np.uint64(32)) ^ mixed) * _ODD[-1]


def band_width(likeness: float) -> int:
    """Hashes of a band: as many as still find a pair at the threshold with a chance of `RECALL`."""
    widths = [2**n for n in range(6)]
    return max((w for w in widths if 1 - (1 - likeness**w) ** (PERMUTATIONS // w) >= RECALL), default=1)


class Signed:
    """Positions and min-hashes of up to `rows` rows, by their number, in `file`, and their bands."""

    def __init__(self, workspace: Workspace, file: IO[bytes], rows: int, likeness: float) -> None:
        self._workspace = workspace
        self._file = file
        self._likeness = likeness
        self._count = 0
        self._bits = np.empty((rows, PERMUTATIONS // 64), np.uint64)
        """One of each hash, 16 bytes a row: rows have no more hashes in common than bits. Nothing else is held."""
        self._bands = SharedBands(workspace.scratch, rows, PERMUTATIONS // band_width(likeness))

    def add(self, selected: pa.Table, hashes: np.ndarray) -> None:
        """The next rows, whose `position` and `scope` are `selected`; `hashes` is uint32 [N, PERMUTATIONS]."""
        rows = np.empty(len(hashes), _SIGNED)
        rows["position"], rows["hashes"] = selected["position"].to_numpy(), hashes
        self._file.write(rows.tobytes())
        bits = np.packbits((hashes & 1).astype(np.uint8), axis=1).view(np.uint64)
        self._bits[self._count : self._count + len(hashes)] = bits
        self._bands.add(self._count, bands_of(hashes, selected["scope"].to_numpy(), self._likeness))
        self._count += len(hashes)

    def compare(self) -> None:
        """Fill the table `alike` with positions that are near the first of a band, that one's position, and both's
        likeness."""
        create_alike(self._workspace)
        self._file.flush()
        for numbers, firsts in self._bands.candidates(self._likely):
            one, other = self._read(numbers), self._read(firsts)
            share = (one["hashes"] == other["hashes"]).mean(axis=1, dtype=np.float32)
            add_alike(self._workspace, one["position"], other["position"], share, self._likeness)

    def _likely(self, numbers: np.ndarray, firsts: np.ndarray) -> np.ndarray:
        """Whether so many bits are equal. Nearly all rows share a band with some other one by chance where there are
        millions: these are not even put in order."""
        different = np.bitwise_count(self._bits[numbers] ^ self._bits[firsts]).sum(axis=1)
        return 1 - different.astype(np.float32) / PERMUTATIONS >= self._likeness

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        # Not mapped: a fault brings the pages around it too, of a large file so many that they are hundreds of MiB.
        size, file = _SIGNED.itemsize, self._file.fileno()
        return np.frombuffer(b"".join(os.pread(file, size, size * number) for number in numbers.tolist()), _SIGNED)


def bands_of(hashes: np.ndarray, scope: np.ndarray, likeness: float) -> np.ndarray:
    """uint64 [N, bands]: of hashes uint32 [N, PERMUTATIONS] and of `scope` uint64 [N], which rows must share.

    A band is known by one word, in which scope, place and hashes are mixed.
    """
    width = band_width(likeness)
    count, bands = len(hashes), PERMUTATIONS // width
    mixed = np.random.default_rng(_SEED).integers(1, 2**63, size=width + 2, dtype=np.uint64) | np.uint64(1)
    values = (hashes.reshape(count, bands, width).astype(np.uint64) * mixed[:width]).sum(axis=2, dtype=np.uint64)
    return values + (scope[:, None] * mixed[width] + np.arange(bands, dtype=np.uint64) * mixed[width + 1])
