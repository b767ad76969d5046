"""What an index of rows costs over three numbers of rows, and what a stage's start costs once it is there.

The rows are made up and are metadata alone: Parquet files of `id, source, text_tokens, width, height`. For each number
of rows a process of its own builds the index by worker processes; others then start as a stage of pre-training does
(open and check the index, open a stream per source, draw a global batch), once cold of everything but the operating
system's cache, and once resumed from the first one's state with its packs dealt to other ranks. `exponent` is the slope
of log(cost) over log(rows); 1 is linear. Seconds are the wall clock's and the processors' of all processes; memory is
the resident peak of a process, mapped pages with it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.data.index.command import write_index
from pretrain.packing.online import StreamSample
from pretrain.train.online import OnlineOrder
from pretrain.train.order import deal_packs

SOURCES = ("caption", "ocr", "grounding", "text")
GROUP = 2**20
FILES = 8
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--workers", type=int, default=0, help="processes that index; 0: as many as CPUs")
    parser.add_argument("--folder", type=Path, help="where the rows lie meanwhile; default: the temporary folder")
    parser.add_argument("--work", nargs=2, metavar=("WHAT", "JSON"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        what, given = args.work
        print(json.dumps(WORK[what](**json.loads(given))))
        return
    report: list[dict[str, Any]] = []
    for rows in args.rows:
        with TemporaryDirectory(dir=args.folder) as folder:
            report.append(measured(Path(folder), rows, args.workers))
            print(json.dumps(report[-1]), flush=True)
    if len(report) > 1:
        print(json.dumps({"exponents": exponents(report)}, indent=1))


def measured(folder: Path, rows: int, workers: int) -> dict[str, Any]:
    """Make `rows` rows, index them and start from the index three times."""
    write_rows(folder / "rows", rows)
    made = apart("build", data=str(folder / "rows"), output=str(folder / "index"), workers=workers)
    data = str(folder / "index")
    first = apart("start", data=data, ranks=4, state=None, steps=STEPS)
    resumed = apart("start", data=data, ranks=2, state=first["states"][0], steps=STEPS - 1)
    if resumed["batches"] != first["batches"][1:]:
        raise SystemExit("the resumed run has other packs than the first")
    for report in (first, resumed):
        del report["batches"], report["states"]
    size = sum(file.stat().st_size for file in (folder / "rows").iterdir())
    return {"rows": rows, "rows_bytes": size, "build": made, "start": first, "resumed_on_other_ranks": resumed}


def write_rows(folder: Path, rows: int) -> None:
    """Files of metadata, the same for the same number of rows."""
    folder.mkdir()
    random = np.random.default_rng(0)
    schema = pa.schema(
        [("id", pa.string()), ("source", pa.string()), ("text_tokens", pa.int32())]
        + [(name, pa.int32()) for name in ("width", "height")]
    )
    bounds = [rows * number // FILES for number in range(FILES + 1)]
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        with pq.ParquetWriter(folder / f"{number:03d}.parquet", schema, compression="zstd") as writer:
            for start in range(begin, end, GROUP):
                count = min(GROUP, end - start)
                numbers = pa.array(np.arange(start, start + count)).cast(pa.string())
                shown = random.random(count) < 0.8
                columns = [
                    pc.binary_join_element_wise("row", numbers, "-"),
                    pa.array(SOURCES).take(pa.array(random.integers(0, len(SOURCES), count))),
                    pa.array(random.integers(20, 2000, count, dtype=np.int32)),
                    *(pa.array(np.where(shown, random.integers(56, 1344, count), 0).astype(np.int32)) for _ in "wh"),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=count)


def build(data: str, output: str, workers: int) -> dict[str, Any]:
    """The work of `pangu-rl index`."""
    with Peak() as peak:
        summary = write_index([Path(data)], Path(output), None, workers).as_dict()
    cpu = sum(
        getattr(resource.getrusage(who), name)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        for name in ("ru_utime", "ru_stime")
    )
    workers_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {
        "seconds": summary["seconds"],
        "cpu_seconds": round(cpu, 2),
        "bytes": summary["bytes"],
        "bytes_per_row": round(summary["bytes"] / summary["rows"], 1),
        "shards": summary["shards"],
        "driver_peak_gib": peak.gib,
        "worker_peak_gib": round(workers_peak, 3),
    }


def start(data: str, ranks: int, state: dict[str, Any] | None, steps: int) -> dict[str, Any]:
    """What a stage's driver does until its first step's packs are dealt, then some more steps."""
    with Peak() as peak:
        begun, cpu = time.perf_counter(), time.process_time()
        files = open_rows(Path(data), on_bad_row="refuse")
        order = OnlineOrder(files, stage(data), lambda *sizes: float(sizes[0]))
        if state is not None:
            order.load_state_dict(state)
        batches, states = [], []
        seconds = cpu_seconds = 0.0
        for _ in range(steps):
            batches.append(order.next_batch(Known))
            deal_packs(batches[-1], ranks)
            seconds = seconds or time.perf_counter() - begun
            cpu_seconds = cpu_seconds or time.process_time() - cpu
            states.append(json.loads(json.dumps(order.state_dict())))
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "driver_peak_gib": peak.gib,
        "driver_own_gib": peak.own_gib,
        "state_bytes": len(json.dumps(states[0])),
        "batches": [[list(pack.rows) for pack in batch] for batch in batches],
        "states": states,
    }


@dataclass(frozen=True)
class Known:
    """Follows `Measured`, by made-up sizes: up to 1,000 tokens of text and three pictures of 256."""

    numbers: Sequence[int]
    rows: None = None

    def samples(self) -> list[StreamSample]:
        return list(map(_sample, self.numbers))


def _sample(row: int) -> StreamSample:
    made_up = zlib.crc32(row.to_bytes(8, "little"))
    visual = 256 * (made_up % 4)
    return StreamSample(row, 1 + made_up // 4 % 1000 + visual, visual, visual * visual)


def stage(data: str) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "model": {"path": "none"},
            "data": {"train": data, "shares": dict.fromkeys(SOURCES, 1.0)},
            "learner": {"pack_tokens": 8192},
            "trainer": {"run_dir": "none", "steps": 1, "packs_per_step": 32},
        }
    )


class Peak:
    """The resident peak of this process until the end of the context, and what of its memory is no file's then."""

    gib = own_gib = 0.0

    def __enter__(self) -> Peak:
        return self

    def __exit__(self, *_: object) -> None:
        self.gib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        own = next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
        self.own_gib = round(int(own) / 2**20, 3)


def apart(what: str, **given: Any) -> dict[str, Any]:
    """One work in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data.row_index", "--work", what, json.dumps(given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def exponents(report: list[dict[str, Any]]) -> dict[str, float]:
    """Slopes of log(cost) over log(rows)."""
    rows = np.log([entry["rows"] for entry in report])
    costs = {name: [entry["build"][name] for entry in report] for name in ("seconds", "cpu_seconds", "bytes")}
    return {name: round(float(np.polyfit(rows, np.log(values), 1)[0]), 3) for name, values in costs.items()}


WORK = {"build": build, "start": start}


if __name__ == "__main__":
    main()
