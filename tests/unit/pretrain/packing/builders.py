"""Small metadata files and plans of drawn samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.config.sections.packing import PackingConfig
from pretrain.packing.best_fit import Samples
from pretrain.packing.metadata import Metadata, read_metadata

ROWS = {"id": ["a"], "text_tokens": [10], "width": [0], "height": [0]}


def write_rows(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(ROWS | columns), path)
    return path


def config(**settings: Any) -> PackingConfig:
    return PackingConfig(**({"context": 1000, "ranks": 1} | settings))


def drawn_rows(count: int, seed: int = 0) -> dict[str, Any]:
    """Columns of a corpus in small: half text, a third with one picture, the rest with several; two sources."""
    random = np.random.default_rng(seed)
    pictures = np.where(random.random(count) < 0.5, 0, np.where(random.random(count) < 0.7, 1, 3))
    return {
        "id": [f"s{number:05d}" for number in range(count)],
        "text_tokens": np.exp(random.normal(4, 1, count)).astype(int) + 1,
        "width": [random.integers(40, 700, n).tolist() for n in pictures],
        "height": [random.integers(40, 700, n).tolist() for n in pictures],
        "source": ["text" if n == 0 else "vl" for n in pictures],
    }


def drawn_metadata(folder: Path, count: int, **settings: Any) -> Metadata:
    return read_metadata(write_rows(folder / "metadata.parquet", **drawn_rows(count)), config(**settings))


def text(tokens: list[int]) -> Samples:
    return samples(tokens, [0] * len(tokens))


def samples(tokens: list[int], visual_tokens: list[int]) -> Samples:
    """FLOPs are the visual tokens plus a part that grows with their square, as in the encoder."""
    visual = np.array(visual_tokens, dtype=np.int64)
    return Samples(
        tokens=np.array(tokens, dtype=np.int64),
        visual_tokens=visual,
        visual_flops=visual + 1e-3 * visual.astype(float) ** 2,
    )
