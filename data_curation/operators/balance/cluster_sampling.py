"""More of what is diverse, less of what repeats itself (MindVL, section 3.1.1): k-means over embeddings, broad clusters
once more, then a share of the rows for each cluster in proportion to its variance.

Clusters are found by `pretrain/contrastive/kmeans.py`; embeddings lie in a mapped file, and 16 bytes a row in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat, PositiveInt

from data_curation.operators.balance._drawn import drawn
from data_curation.operators.balance._embeddings import Some, clustered, noted_vector, read_vectors
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Annotate, Drop, Record, Verdict

LEAST_NORM = 1e-12


def embedding(record: Record, *, noted_by: str, seed: int) -> dict[str, Any] | None:
    """None of a row without one: it is kept."""
    vector = noted_vector(record, noted_by)
    return None if vector is None else {"vector": vector, "drawn": drawn(record.uid, seed)}


@set_operator(features=embedding, schema=pa.schema([("vector", pa.binary()), ("drawn", pa.int64())]))
def cluster_sampling(
    rows: Features,
    *,
    keep: PositiveInt,
    clusters: PositiveInt,
    again: PositiveInt = 4,
    broad: PositiveFloat = 1.5,
    noted_by: str = "picture_embeddings",
    seed: int = 0,
) -> Iterator[tuple[int, Verdict]]:
    """`keep` rows stay. Clusters whose variance is above `broad` times the mean one are split into `again`. A cluster
    with fewer rows than its share gives what is left to the others; within one, rows are drawn by their ids."""
    table, points = read_vectors(rows, "position, drawn, vector")
    positions, order = table["position"].to_numpy(), table["drawn"].to_numpy()
    if not len(positions):
        return
    labels = clustered(points, min(clusters, len(points)), seed)
    variance, sizes = variances(points, labels)
    for label in np.flatnonzero((variance > broad * variance.mean()) & (sizes > again)):
        own = np.flatnonzero(labels == label)
        parts = clustered(Some(points, own), again, seed)
        labels[own] = np.where(parts == 0, label, labels.max() + parts)
    variance, sizes = variances(points, labels)
    wanted = shares(variance, sizes, keep)
    ranked = np.lexsort((order, labels))
    place = np.empty(len(labels), np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    place[ranked] = np.arange(len(labels)) - starts[labels[ranked]]
    for position, label, rank in zip(positions.tolist(), labels.tolist(), place.tolist(), strict=True):
        if rank >= wanted[label]:
            yield position, Drop("its cluster has enough", f"cluster {label}")
        else:
            yield position, Annotate({"cluster": label, "variance": round(float(variance[label]), 5)})


def variances(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each cluster: mean squared distance of unit vectors from their mean, which is 1 - |mean|^2, and its size. A
    vector of zeros has no direction and adds none to the mean."""
    count = int(labels.max()) + 1
    sums = np.zeros((count, points.shape[1]))
    for start in range(0, len(labels), 8192):
        some = np.asarray(points[start : start + 8192], np.float64)
        lengths = np.maximum(np.linalg.norm(some, axis=1, keepdims=True), LEAST_NORM)
        np.add.at(sums, labels[start : start + 8192], some / lengths)
    sizes = np.bincount(labels, minlength=count)
    return 1 - ((sums / np.maximum(sizes, 1)[:, None]) ** 2).sum(axis=1), sizes


def shares(variance: np.ndarray, sizes: np.ndarray, keep: int) -> np.ndarray:
    """Rows of each cluster, int64 [K]: in proportion to variance, none more than its size, together `keep` or all."""
    weights = np.maximum(variance, 1e-6) * (sizes > 0)
    wanted = np.zeros(len(sizes), np.int64)
    while (left := min(keep, int(sizes.sum())) - int(wanted.sum())) > 0:
        open_ones = wanted < sizes
        exact = left * weights * open_ones / (weights * open_ones).sum()
        given = np.minimum(np.floor(exact).astype(np.int64), sizes - wanted)
        if not given.any():  # fewer are left than clusters: one for each of the largest remainders
            given[np.argsort(-exact, kind="stable")[:left]] = 1
        wanted += given
    return wanted
