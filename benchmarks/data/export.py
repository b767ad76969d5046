"""Seconds and peak memory of `pangu-rl export` over made-up stores: by default of 0.1, 1 and 2 million rows.

The stores are written by the product's own shard writer, with drawn tokens, log-probs and texts of the lengths of short
reasoning, groups of eight, every tenth prompt with a picture. The first 100,000 rows are drawn; later ones are those
again, of other steps and prompts. Each export runs in a process of its own, whose peak resident memory and seconds are
reported; several sizes show whether memory grows with the store.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from rollout.schema import SCHEMA
from rollout.shards import shard_path, write_shard

GROUP = 8
STEP_GROUPS = 500
DRAWN_STEPS = 25
"""100,000 rows."""
PHRASE = "so the sum of both sides is then we add divide by two and get therefore answer first second"
WORDS = PHRASE.split()
EXPORTS = {
    "sft, correct, parquet": ["--to", "sft"],
    "sft, where + pass rate, jsonl": [
        "--to", "sft", "--format", "jsonl", "--pass-rate", "0.1:0.75", "--where", "response_tokens < 200 and step > 1",
    ],
    "pairs, jsonl": ["--to", "pairs", "--format", "jsonl"],
    "prompts, parquet": ["--to", "prompts"],
    "raw, parquet": ["--to", "raw"],
    "sft, near-duplicates 0.9": ["--to", "sft", "--near-duplicates", "0.9"],
    "stats": ["--stats", "--json"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 2_000_000])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/pangu_rl_export_bench"))
    parser.add_argument("--only", nargs="+", choices=EXPORTS, help="default: all")
    args = parser.parse_args()
    report: dict[str, object] = {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    for rows in args.rows:
        run = args.folder / f"run-{rows}"
        started = time.perf_counter()
        if not run.exists():
            make_store(run, rows)
            report[f"{rows} rows, made in s"] = round(time.perf_counter() - started, 1)
        size = sum(path.stat().st_size for path in run.rglob("*.parquet"))
        report[f"{rows} rows, MB of shards"] = round(size / 1e6)
        for name, options in EXPORTS.items():
            if not args.only or name in args.only:
                report[f"{rows} rows: {name}"] = timed(run, options, args.folder / "out")
                print(f"{rows} rows: {name}", report[f"{rows} rows: {name}"], flush=True)
    print(json.dumps(report, indent=1))


def timed(run: Path, options: list[str], output: Path) -> dict[str, object]:
    shutil.rmtree(output, ignore_errors=True)
    target = [] if "--stats" in options else ["--output", str(output), "--json"]
    command = [sys.executable, "-m", "pangu_rl", "export", str(run), *options, *target]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data.export", "--child", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    *_, line, used = done.stdout.splitlines()
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return {"seconds": round(seconds, 1), **json.loads(used), "rows": json.loads(line)["rows"], "MB": round(size / 1e6)}


def child(command: list[str]) -> None:
    subprocess.run(command, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_MB": used.ru_maxrss // 1024}))


def make_store(run: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    folder = run / "rollouts"
    (folder / "images").mkdir(parents=True)
    pictures = [keep_picture(folder, rng) for _ in range(64)]
    groups = rows // GROUP
    for step in range(1, -(-groups // STEP_GROUPS) + 1):
        count = min(STEP_GROUPS, groups - (step - 1) * STEP_GROUPS)
        path = shard_path(folder, step, step)
        if step > DRAWN_STEPS:
            write_shard(path, again(folder, step).slice(0, count * GROUP))
            continue
        made = [row for index in range(count) for row in group_rows(rng, run.name, step, index, pictures)]
        write_shard(path, pa.Table.from_pylist(made, schema=SCHEMA))


def again(folder: Path, step: int) -> pa.Table:
    """The rows of a drawn step as those of `step`, each prompt another one."""
    drawn = (step - 1) % DRAWN_STEPS + 1
    table = pq.read_table(shard_path(folder, drawn, drawn))
    for name in ("prompt_uid", "group", "completion_uid"):
        renamed = pc.replace_substring(table[name], f"p-{drawn}-", f"p-{step}-")
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), renamed)
    steps = pa.array([step] * len(table), pa.int64())
    return table.set_column(table.schema.get_field_index("step"), SCHEMA.field("step"), steps)


def keep_picture(folder: Path, rng: np.random.Generator) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (112, 112, 3), dtype=np.uint8)).save(file, "PNG")
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    (folder / "images" / f"{sha256}.png").write_bytes(file.getvalue())
    return {"path": f"images/{sha256}.png", "sha256": sha256, "original": f"p/{sha256[:8]}.png"}


def group_rows(
    rng: np.random.Generator, run: str, step: int, index: int, pictures: list[dict[str, str]]
) -> list[dict[str, object]]:
    uid = f"p-{step}-{index}"
    shown = [pictures[int(rng.integers(len(pictures)))]] if index % 10 == 0 else []
    messages = [
        {"role": "user", "content": f"Question {uid}: what is {int(rng.integers(99))} + {int(rng.integers(99))}?"}
    ]
    rate = rng.beta(1, 1)
    shared = {
        "run": run,
        "step": step,
        "prompt_uid": uid,
        "group": f"0:{uid}",
        "source": ("sums", "shapes")[index % 2],
        "messages": json.dumps(messages),
        "images": shown,
        "gold": "42",
        "answer_type": "integer",
        "extra": "{}",
        "prompt_token_ids": rng.integers(0, 49152, 24, dtype=np.int32),
        "weight_version": step,
        "code_version": "bench",
        "sampling": {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 512, "ignore_eos": False},
        "trained": True,
        "scorer_votes": None,
        "seconds": 1.0,
    }
    return [shared | completion(rng, f"0:{uid}/{n}", bool(rng.random() < rate)) for n in range(GROUP)]


def completion(rng: np.random.Generator, uid: str, correct: bool) -> dict[str, object]:
    tokens = int(np.clip(rng.lognormal(4.5, 0.6), 8, 512))
    words = " ".join(WORDS[int(n)] for n in rng.integers(len(WORDS), size=tokens // 2))
    outcome = "correct" if correct else "incorrect"
    return {
        "completion_uid": uid,
        "token_ids": rng.integers(0, 49152, tokens, dtype=np.int32),
        "logprobs": -rng.exponential(0.4, tokens).astype(np.float32),
        "text": f"{words} \\boxed{{{42 if correct else int(rng.integers(42))}}}",
        "finish_reason": "stop" if tokens < 512 else "length",
        "reward": float(correct) + 0.1,
        "outcome": outcome,
        "parts": [
            {"name": "boxed_accuracy", "value": float(correct), "outcome": outcome, "detail": ""},
            {"name": "boxed_format", "value": 1.0, "outcome": "correct", "detail": ""},
        ],
        "advantage": 0.5 if correct else -0.5,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
