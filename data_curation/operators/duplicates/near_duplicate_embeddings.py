"""Rows whose pictures an encoder takes for the same: the first one is kept (SemDeDup, Abbas et al. 2023).

Vectors are compared within clusters of k-means alone, so that rows are not compared with all others but with all
clusters; a pair on both sides of a border between clusters is missed. Vectors lie in a mapped file, and 16 bytes a row
in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from data_curation.operators.balance._embeddings import clustered, noted_vector, read_vectors
from data_curation.operators.duplicates._alike import dropped_as_alike
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Record, Verdict
from pangu_rl.config.curate import Share
from rollout.export.shared_bands import add_alike, create_alike

BLOCK = 1024
"""Rows that are compared with kept ones at once."""


def embedding(record: Record, *, noted_by: str) -> dict[str, Any] | None:
    """None of a row without one: it is kept."""
    vector = noted_vector(record, noted_by)
    return None if vector is None else {"uid": record.uid, "vector": vector}


@set_operator(features=embedding, schema=pa.schema([("uid", pa.string()), ("vector", pa.binary())]))
def near_duplicate_embeddings(
    rows: Features,
    *,
    likeness: Share = 0.97,
    clusters: PositiveInt = 1,
    noted_by: str = "picture_embeddings",
    seed: int = 0,
) -> Iterator[tuple[int, Verdict]]:
    """A row goes if its cosine with an earlier one that is kept is at least `likeness`. One cluster compares all rows;
    take about one for each ten thousand."""
    table, points = read_vectors(rows, "position, vector")
    if not len(points):
        return
    positions, count = table["position"].to_numpy(), min(clusters, len(points))
    labels = clustered(points, count, seed) if count > 1 else np.zeros(len(points), np.int64)
    create_alike(rows)
    for label in range(count):
        own = np.flatnonzero(labels == label)
        if found := list(duplicates(points[own], likeness)):
            gone, first, cosines = map(np.array, zip(*found, strict=True))
            add_alike(rows, positions[own[gone]], positions[own[first]], cosines.astype(np.float32), likeness)
    yield from dropped_as_alike(rows, "near-duplicate embedding")


def duplicates(points: np.ndarray, likeness: float) -> Iterator[tuple[int, int, float]]:
    """Number of each point that goes, the kept one that it is most like, and their cosine."""
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    kept: list[int] = []
    for start in range(0, len(unit), BLOCK):
        block = unit[start : start + BLOCK]
        before = block @ unit[kept].T
        within = block @ block.T
        fresh: list[int] = []
        for at in range(len(block)):
            near = np.concatenate([before[at], within[at, fresh]])
            best = int(near.argmax()) if len(near) else -1
            if best >= 0 and near[best] >= likeness:
                yield start + at, [*kept, *(start + one for one in fresh)][best], float(near[best])
            else:
                fresh.append(at)
        kept += [start + one for one in fresh]
