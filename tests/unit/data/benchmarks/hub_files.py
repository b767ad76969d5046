"""Files of benchmarks as the hub has them, a few rows each, and what is asked of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.load import load_config
from pangu_rl.data.benchmarks.load import BenchmarkRows, load_benchmark
from pangu_rl.data.images import check_image_parts
from pangu_rl.records import Prompt
from rewards.metrics.gold_check import benchmark_problem
from tests.contracts.source_tree import ROOT

BENCHMARKS = ROOT / "configs" / "eval" / "benchmarks"


def definition(name: str) -> BenchmarkConfig:
    return load_config(BenchmarkConfig, BENCHMARKS / f"{name}.yaml")


def png(width: int = 64, height: int = 32, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def asked(prompt: Prompt) -> str:
    """The user turn, its pictures as `<image>`."""
    parts = prompt.messages[0]["content"]
    check_image_parts(prompt.messages, prompt.images)
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)


def read(name: str, rows: list[dict[str, Any]], folder: Path, **options: Any) -> BenchmarkRows:
    """As Parquet."""
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return load_benchmark(path, definition(name), problem=benchmark_problem, **options)


def picture(seed: int = 0) -> dict[str, Any]:
    return {"bytes": png(seed=seed), "path": f"{seed}.png"}


def write_tsv(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerows([header, *rows])
    return path
