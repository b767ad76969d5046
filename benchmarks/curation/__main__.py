"""Pipelines of curation, measured: `python -m benchmarks.curation faults|speed|against [--rows N ...]`.

`faults`: precision and recall of each operator on rows with labelled faults. `speed`: rows a second, processor seconds
and peak memory at several sizes, and the exponent. `against`: beside datatrove, see `against.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.curation.against import against
from benchmarks.curation.faults import Faulty, prose
from data_curation.pipeline.run import run_pipeline
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.load import checked
from pangu_rl.config.paths import cache_root

CORPUS = cache_root() / "data/mini_corpus"
TEXT = [
    {"name": "language", "args": {"keep": ["en", "zh"]}},
    {"name": "text_quality", "args": {"least_words": 20}},
    "boilerplate",
    "repetition",
    "near_duplicate_texts",
]


def operators(folder: Path) -> list:
    """Those that have faults of their own, in the order of a pipeline."""
    return [
        "valid_rows",
        {"name": "language", "args": {"keep": ["en", "zh"], "part": "answered"}},
        {"name": "text_quality", "args": {"least_words": 10}},
        "clean_text",
        "boilerplate",
        "repetition",
        "decodable_pictures",
        {"name": "held_out", "args": {"prompts": [str(folder / "held_out.jsonl")], "media_root": str(folder)}},
        "picture_size",
        "blank_pictures",
        "compressed_pictures",
        "grounding_labels",
        "agreeing_answers",
        "followed_instructions",
        "near_duplicate_texts",
        "near_duplicate_pictures",
    ]


def config(source: Path, output: Path, names: list, **more: object) -> CurateConfig:
    listed = [{"name": name} if isinstance(name, str) else name for name in names]
    tree = {"input": [str(source)], "output": str(output), "operators": listed, "max_error_rate": 1.0}
    return checked(CurateConfig, tree | more, "benchmark")


def faults(count: int, keep: Path | None) -> None:
    with TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        faulty = Faulty(CORPUS, folder, count)
        faulty.write()
        names = operators(folder)
        run_pipeline(config(folder / "rows.jsonl", folder / "out", names, media_root=str(folder)))
        lines = [json.loads(line) for file in (folder / "out/dropped").iterdir() for line in file.open()]
    found = {line["id"]: line["operator"] for line in lines}
    print(f"{len(faulty.rows)} rows, {len(faulty.labels)} with a fault, {len(found)} put aside")
    print(
        f"{'operator':26s} {'faults':>6s} {'found':>6s} {'recall':>7s} {'put aside':>9s} {'precision':>9s}  clean rows"
    )
    for operator in dict.fromkeys(faulty.labels.values()):
        wanted = {uid for uid, name in faulty.labels.items() if name == operator}
        aside = {uid for uid, name in found.items() if name == operator}
        right = len(wanted & aside)
        clean = sorted(uid for uid in aside if uid not in faulty.labels)
        print(
            f"{operator:26s} {len(wanted):6d} {right:6d} {right / max(1, len(wanted)):7.3f} {len(aside):9d} "
            f"{1 - len(clean) / max(1, len(aside)):9.3f}  {len(clean)} {clean[:3] or ''}"
        )
        missed = sorted(wanted - aside)
        if missed:
            kinds = Counter(uid.rpartition("-")[0] for uid in missed)
            print(
                f"    not found by it: {dict(kinds)}, but by {dict(Counter(found.get(uid, 'none') for uid in missed))}"
            )
    clean = [uid for uid in found if uid not in faulty.labels]
    print(f"clean rows put aside: {len(clean)} of {len(faulty.rows) - len(faulty.labels)}")


def speed(sizes: list[int]) -> None:
    points = []
    for size in sizes:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.curation", "one", "--rows", str(size)],
            capture_output=True,
            text=True,
            check=True,
        )
        measured = json.loads(done.stdout.splitlines()[-1])
        points.append((size, measured["cpu"]))
        print(size, measured, flush=True)
    (low, first), (high, last) = points[0], points[-1]
    print(f"exponent of processor seconds: {math.log(last / first) / math.log(high / low):.3f}")


def one(size: int) -> None:
    """In a process of its own, so that its peak of memory is of this size."""
    texts, draw = [text.split() for text in prose(2000)], random.Random(0)
    with TemporaryDirectory() as scratch:
        source = Path(scratch) / "rows.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for number in range(size):
                words = [word for _ in range(3) for word in _piece(draw, texts)]
                file.write(json.dumps({"id": f"r{number}", "document": " ".join(words)}) + "\n")
        started, cpu = time.perf_counter(), time.process_time()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        summary = run_pipeline(config(source, Path(scratch) / "out", TEXT))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    said = {tally.name: round(tally.rows_in / max(tally.seconds, 1e-9)) for tally in summary.tallies}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = {
        "rows_s": round(size / seconds),
        "cpu": round(cpu, 2),
        "peak_mib": round(peak),
        "before_mib": before // 1024,
    }
    print(json.dumps(measured | {"left": summary.rows, "rows_s_by_operator": said}))


def _piece(draw: random.Random, texts: list[list[str]]) -> list[str]:
    words = draw.choice(texts)
    start = draw.randrange(max(1, len(words) - 25))
    return words[start : start + 25]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("faults", "speed", "against", "one"))
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--keep", type=Path, help="Folder for rows, pictures and report of `faults`, to look at.")
    parser.add_argument("--python", type=Path, help="Of `against`: an interpreter that has datatrove.")
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.rows or [10_000, 30_000, 100_000])
    elif given.what == "against":
        if given.python is None:
            parser.error("against needs --python")
        against(given.python, (given.rows or [3000])[0])
    elif given.what == "faults":
        faults((given.rows or [400])[0], given.keep)
    else:
        one((given.rows or [400])[0])


if __name__ == "__main__":
    main()
