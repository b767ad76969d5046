"""Rows a second of `pangu-rl pretrain --measure`: in one process, and over Ray Data on one CPU after another.

The rows are those of the mini-corpus, each several times under another id; texts are tokenised and headers of pictures
read. Every way must write the same bytes. Starting Ray and the actors is timed apart, by measuring a few rows first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from pangu_rl.cluster.ray_runtime import session
from pangu_rl.config.load import checked
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pretrain.train.measure import write_sizes

MODEL = "cache://models/tiny-pangu-vl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cache://data/mini_corpus", help="its folder")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    report: dict = {"load_before": round(os.getloadavg()[0], 2)}
    with TemporaryDirectory() as folder:
        whole, few = Path(folder) / "whole.jsonl", Path(folder) / "few.jsonl"
        lines = (resolve_path(args.corpus) / "sft.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        copies = [row | {"id": f"{row['id']}/{copy}"} for copy in range(args.copies) for row in rows]
        whole.write_text("".join(json.dumps(row) + "\n" for row in copies), encoding="utf-8")
        few.write_text("".join(json.dumps(row) + "\n" for row in copies[:64]), encoding="utf-8")
        report |= {"rows": len(copies)}
        with session(config(few, args.corpus).cluster):
            for workers in args.workers:
                report[f"{workers} workers"] = timed(whole, few, args.corpus, workers)
    digests = {report[f"{workers} workers"]["sha256"] for workers in args.workers}
    if len(digests) > 1:
        raise SystemExit(f"the files differ: {report}")
    print(json.dumps(report, indent=1))


def timed(whole: Path, few: Path, corpus: str, workers: int) -> dict[str, float | str]:
    output = whole.with_name(f"{workers}.parquet")
    started = time.perf_counter()
    write_sizes(config(few, corpus), output, workers)
    start = time.perf_counter() - started
    started = time.perf_counter()
    rows = write_sizes(config(whole, corpus), output, workers)
    seconds = time.perf_counter() - started
    return {
        "start_s": round(start, 2),
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / max(seconds - start, 1e-9), 1),
        "driver_peak_mib": round(psutil.Process().memory_info().rss / 2**20),
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest()[:16],
    }


def config(rows: Path, corpus: str) -> PretrainConfig:
    tree = {
        "model": {"path": MODEL},
        "data": {"train": str(rows), "media_root": corpus},
        "trainer": {"run_dir": "none", "steps": 1, "packs_per_step": 1},
        "cluster": {"object_store_gib": 0.3},
    }
    return checked(PretrainConfig, tree, "benchmark")


if __name__ == "__main__":
    main()
