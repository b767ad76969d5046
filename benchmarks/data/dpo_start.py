"""Seconds until DPO has its data: pairs, and a million SFT rows beside them of which it mixes in a few thousand.

`first` makes the index of the SFT rows, `again` finds it; both end when the rows of the first step are read and
tokenised. `mixed_in` is all that a run of `--steps` draws. Beside them the way of small files, which reads, tokenises
and judges every row at the start, on so many rows as take some seconds, and what it says of all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pangu_rl.config.load import checked
from pangu_rl.config.stages import DpoConfig
from pangu_rl.data import drawn_rows
from pangu_rl.loops.inputs.pairs import read_dpo_inputs

MODEL = "cache://models/smollm2-135m-instruct"
WORDS = "A sentence of some ten words that says what stands in a picture. "
SAMPLE = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        config = write(Path(folder), args.rows, args.pairs, args.steps)
        report: dict[str, Any] = {"rows": args.rows, "bytes": Path(config.data.sft or "").stat().st_size}
        for name in ("first", "again"):
            report[name] = started(config, config.sft_per_step)
        report["mixed_in"] = {"rows": config.sft_per_step * args.steps}
        report["mixed_in"] |= started(config, config.sft_per_step * args.steps)
        report["all_read"] = all_read(Path(folder), args)
    print(json.dumps(report, indent=1))


def write(folder: Path, rows: int, pairs: int, steps: int) -> DpoConfig:
    with (folder / "sft.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            said = [("user", f"Question {number}: {WORDS * (number % 4)}?"), ("assistant", WORDS * (1 + number % 6))]
            messages = [{"role": role, "content": text} for role, text in said]
            file.write(json.dumps({"id": f"row-{number}", "messages": messages, "source": "made-up"}) + "\n")
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for number in range(pairs):
            row = {"prompt": f"Question {number}: {WORDS * (number % 4)}?", "chosen": "Yes.", "rejected": "No."}
            file.write(json.dumps(row) + "\n")
    tree = {
        "model": {"path": MODEL},
        "data": {"train": str(folder / "pairs.jsonl"), "sft": str(folder / "sft.jsonl"), "sft_share": 0.5},
        "trainer": {"run_dir": str(folder / "run"), "steps": steps},
    }
    return checked(DpoConfig, tree, "benchmark")


def started(config: DpoConfig, rows: int) -> dict[str, float]:
    begun, cpu = time.perf_counter(), time.process_time() + children()
    inputs = read_dpo_inputs(config)
    if inputs.sft is None:
        raise SystemExit("no SFT rows")
    drawn = inputs.sft.stream(shuffle=True, seed=0).next(rows)
    inputs.loader.conversations([row for _, row in drawn])
    seconds = time.perf_counter() - begun
    return {"seconds": round(seconds, 2), "cpu_seconds": round(time.process_time() + children() - cpu, 2)}


def all_read(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Every row read at the start, as of a small file."""
    few = folder / "few"
    few.mkdir()
    config = write(few, SAMPLE, args.pairs, args.steps)
    if drawn_rows.read_when_drawn(few / "sft.jsonl"):
        raise SystemExit("the sample is no small file")
    found = started(config, 1)
    return found | {"rows": SAMPLE, "hours_for_all": round(found["cpu_seconds"] / SAMPLE * args.rows / 3600, 2)}


def children() -> float:
    """Processor seconds of the processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
