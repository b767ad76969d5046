"""Rows that show a picture which an earlier row shows too, perhaps scaled, compressed or retouched: the first is kept.

A difference hash (D. Krawetz, "Kind of like that", 2013) of 16 x 16 signs. Hashes that differ in at most 10 bits have
at least 6 of their 16 rows in common, so two of these are in the same one of 5 groups: the 18 pairs within groups find
every such hash. 32 bits are seldom equal by chance; 16 are in any large set, whose first row then hides the right one.
Pages of text have few signs beside those of their margins, so the differences themselves are compared too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from tempfile import TemporaryFile
from typing import IO, Annotated, Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from data_curation.operators.duplicates._alike import dropped_as_alike
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Record, Verdict
from pangu_rl.data.media.columns import video_paths
from rollout.export.shared_bands import Pairs, SharedBands, add_alike, create_alike

SIDE = 16
BITS = SIDE * SIDE
NOISE = 4
"""Of 255, a difference that has a sign: in an area of one colour compression decides which neighbour is lighter."""
TOLERANCE = 1.5
"""Of 255, how far differences may be apart beside half of the larger one. The pages of one book differ by 2 to 4."""
LEAST = 8
"""Places with more than `NOISE`, below which a picture says too little to be called another one's copy."""
_BYTES = BITS * np.dtype(np.float16).itemsize
_TEXT = 2000
"""Characters of what is asked that tell two questions on one picture apart."""


def picture_hash(record: Record, *, per_question: bool) -> dict[str, Any] | None:
    """The row's id, the hashes of its pictures in a row, and what is asked of them, beside which videos; None of a row
    without pictures."""
    if not record.images:
        return None
    hashes = b"".join(differences(record.picture(path)).tobytes() for path in record.images)
    question = record.text()[:_TEXT] if per_question else ""
    return {"uid": record.uid, "hashes": hashes, "asked": [question, *video_paths(record.row)]}


@set_operator(
    features=picture_hash,
    schema=pa.schema([("uid", pa.string()), ("hashes", pa.binary()), ("asked", pa.list_(pa.string()))]),
)
def near_duplicate_pictures(
    rows: Features, *, most_bits: Annotated[int, Field(ge=0, lt=SIDE - 1)] = 10, per_question: bool = True
) -> Iterator[tuple[int, Verdict]]:
    """At most `most_bits` of 256 signs differ, and so many differences, in each picture of the row. `per_question`
    leaves rows alone whose texts differ: set it to false where a picture shall be seen once, whatever is asked. Nearly
    blank pictures stay, since they cannot be told apart: `blank_pictures` drops them."""
    create_alike(rows)
    with TemporaryFile(dir=rows.scratch) as hashes, TemporaryFile(dir=rows.scratch) as places:
        bands = SharedBands(rows.scratch, rows.count(), len(_pairs(most_bits)))
        number = end = 0
        for table in rows.tables("position, hashes, hash(asked, octet_length(hashes)) AS scope"):
            own = table["hashes"].to_pylist()
            firsts = np.frombuffer(b"".join(one[:_BYTES] for one in own), np.float16).reshape(-1, BITS)
            signs = np.packbits(firsts > NOISE, axis=1).view(np.uint16)
            bands.add(number, bands_of(signs, table["scope"].to_numpy(), most_bits))
            ends = end + np.cumsum([0, *map(len, own)])
            hashes.write(b"".join(own))
            places.write(np.stack([table["position"].to_numpy(), ends[:-1], ends[1:]], axis=1).tobytes())
            number, end = number + len(own), int(ends[-1])
        hashes.flush()
        places.flush()
        for pairs in bands.candidates():
            _compare(rows, hashes, places, pairs, most_bits)
    yield from dropped_as_alike(rows, "near-duplicate picture")


def _pairs(most_bits: int) -> np.ndarray:
    """Rows of a hash that make a band together, int64 [bands, 2].

    Of the 16 rows of two hashes at least 16 - `most_bits` are equal. In one group fewer there are two in one of them.
    """
    groups = SIDE - most_bits - 1
    return np.array([pair for pair in combinations(range(SIDE), 2) if (pair[1] - pair[0]) % groups == 0])


def bands_of(hashes: np.ndarray, scope: np.ndarray, most_bits: int) -> np.ndarray:
    """uint64 [N, bands]: pairs of 16-bit rows of the hashes, uint16 [N, 16], mixed with `scope`, uint64 [N]."""
    words = hashes[:, _pairs(most_bits)].astype(np.uint64)
    mixed = np.random.default_rng(SIDE).integers(1, 2**63, size=3, dtype=np.uint64) | np.uint64(1)
    values = (words[..., 0] << np.uint64(16) | words[..., 1]) * mixed[0] + scope[:, None] * mixed[1]
    return values + np.arange(words.shape[1], dtype=np.uint64) * mixed[2]


def _compare(rows: Features, hashes: IO[bytes], places: IO[bytes], pairs: Pairs, most_bits: int) -> None:
    """`places` has each row's position, and begin and end of its hashes, int64 each."""

    def own(numbers: np.ndarray) -> tuple[np.ndarray, list[bytes]]:
        # Read, not mapped, as in `Signed`.
        found = b"".join(os.pread(places.fileno(), 24, 24 * number) for number in numbers.tolist())
        each = np.frombuffer(found, np.int64).reshape(-1, 3)
        return each[:, 0], [os.pread(hashes.fileno(), end - begin, begin) for _, begin, end in each.tolist()]

    (positions, contents), (firsts, others) = map(own, pairs)
    likeness = np.array([likeness_of(one, other) for one, other in zip(contents, others, strict=True)])
    add_alike(rows, positions, firsts, likeness, 1 - most_bits / BITS)


def differences(picture: Image.Image) -> np.ndarray:
    """float16 [256]: of each of 16 x 16 places, how much lighter it is to its right, of 255."""
    grey = picture.convert("L").convert("F").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    return np.diff(np.asarray(grey), axis=1).astype(np.float16).ravel()


def places_apart(one: bytes, other: bytes) -> int:
    """Of 256, in how many signs or differences two rows' pictures differ, of the pair that differs most."""
    a, b = _both(one, other)
    signs = (a > NOISE) != (b > NOISE)
    far = np.abs(a - b) > TOLERANCE + np.maximum(np.abs(a), np.abs(b)) / 2
    return int(max(signs.sum(axis=1).max(), far.sum(axis=1).max()))


def likeness_of(one: bytes, other: bytes) -> float:
    """Share of equal places; 0 where a picture is nearly blank in both."""
    told = (np.maximum(*map(np.abs, _both(one, other))) > NOISE).sum(axis=1)
    return 1 - places_apart(one, other) / BITS if told.min() >= LEAST else 0.0


def _both(one: bytes, other: bytes) -> np.ndarray:
    """float32 [2, pictures, 256]."""
    return np.frombuffer(one + other, np.float16).reshape(2, -1, BITS).astype(np.float32)
