"""Planning at size: made-up metadata of several sizes -> seconds, bytes on disk and memory of every process, exponents.

    python -m benchmarks.data.plan_pieces --rows 1000000 4000000 16000000

Each size is planned by `pangu-rl pack` in a process of its own, whose peak is told apart from its workers'.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.config.sections.packing import PackingConfig
from pretrain.packing.pack import pack_file
from pretrain.packing.plan_file import PlanReader

GROUP = 2**16
SIDES = np.array([224, 336, 448, 640, 800, 1024, 1344])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 16_000_000])
    parser.add_argument("--context", type=int, default=24_576)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(planned(args.child, args.context)))
        return
    found = []
    for rows in args.rows:
        with TemporaryDirectory() as folder:
            write_metadata(Path(folder) / "metadata.parquet", rows)
            command = [
                sys.executable,
                "-m",
                "benchmarks.data.plan_pieces",
                "--child",
                folder,
                "--context",
                str(args.context),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            found.append({"rows": rows} | json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
    if len(found) > 1:
        names = ("cpu_seconds", "plan_bytes")
        print(json.dumps({name: exponent(found, name) for name in names}))


def write_metadata(path: Path, rows: int) -> None:
    """Half text, half with a picture; ids like those of a corpus."""
    random = np.random.default_rng(0)
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("text_tokens", pa.int64()),
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("source", pa.string()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, GROUP):
            count = min(GROUP, rows - first)
            shown = random.random(count) < 0.5
            columns = {
                "id": [f"web-{number:012d}" for number in range(first, first + count)],
                "text_tokens": np.minimum(np.exp(random.normal(5.5, 1.1, count)).astype(int) + 1, 20_000),
                "width": np.where(shown, random.choice(SIDES, count), 0),
                "height": np.where(shown, random.choice(SIDES, count), 0),
                "source": np.where(shown, "vl", "text"),
            }
            writer.write_table(pa.table(columns, schema))


def planned(folder: Path, context: int) -> dict[str, Any]:
    config = PackingConfig(context=context, ranks=128, global_batch=1024)
    begun = time.perf_counter()
    summary = pack_file(folder / "metadata.parquet", folder / "plan", config)
    seconds = time.perf_counter() - begun
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    begun = time.perf_counter()
    reader = PlanReader(folder / "plan")
    packs = reader.packs(reader.steps // 2)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(own.ru_utime + own.ru_stime for own in usage), 2),
        "driver_peak_gib": round(usage[0].ru_maxrss / 2**20, 3),
        "worker_peak_gib": round(usage[1].ru_maxrss / 2**20, 3),
        "plan_bytes": sum(file.stat().st_size for file in (folder / "plan").iterdir()),
        "steps": reader.steps,
        "fill": round(summary.manifest["fill"], 5),
        "visual_imbalance": round(summary.manifest["visual_imbalance"], 5),
        "first_step_s": round(time.perf_counter() - begun, 3),
        "packs_of_a_step": len(packs),
        "cpus": len(os.sched_getaffinity(0)),
    }


def exponent(found: list[dict[str, Any]], name: str) -> float:
    """Slope of the logarithms over the sizes."""
    return round(float(np.polyfit(np.log([f["rows"] for f in found]), np.log([f[name] for f in found]), 1)[0]), 3)


if __name__ == "__main__":
    main()
