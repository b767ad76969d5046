"""Seconds from `pangu-rl view RUN` to its first table over a made-up store, by default of one million rows.

The store is that of `benchmarks/export.py`. The command is started as a user starts it, and asked over HTTP as its page
asks. `first table` is what a browser waits for after the address was printed; every other figure is one more question.
Processor seconds are those of the server. Each store is served twice: a second server finds the files in the kernel's
cache as the first one left them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
from benchmarks.export import make_store

QUESTIONS = {
    "first table": {},
    "next page": {"page": 1},
    "page in the middle": {"page": 10_000},
    "outcome, newest": {"outcome": "incorrect"},
    "where on numbers": {"where": "reward < 0.5 and response_tokens > 100 and step > 20"},
    "best first": {"sort": "best"},
    "search of all texts": {"search": "boxed{41}"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/pangu_rl_view_bench"))
    args = parser.parse_args()
    for rows in args.rows:
        run = args.folder / f"run-{rows}"
        if not run.exists():
            make_store(run, rows)
            (run / "metrics.jsonl").write_text('{"step": 1, "reward/mean": 0.5}\n')
        for turn in (1, 2):
            found = {"rows": rows, "turn": turn, "load_before": round(os.getloadavg()[0], 2), **asked(run)}
            print(json.dumps(found, indent=1), flush=True)


def asked(run: Path) -> dict[str, object]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "pangu_rl", "view", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip()
            process = psutil.Process(server.pid)
            times = {"address printed": _spent(process, started)}
            base, _, token = address.partition("/?token=")
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            opener.open(f"{base}/?token={token}").read()
            for name, question in QUESTIONS.items():
                before, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
                answer = json.load(opener.open(f"{base}/api/rollouts?{urllib.parse.urlencode(question)}"))
                seconds = {
                    "s": round(time.perf_counter() - before, 2),
                    "cpu_s": round(sum(process.cpu_times()[:2]) - cpu, 2),
                }
                times[name] = seconds | {"of": answer["total"]}
            times["peak MB"] = process.memory_info().rss >> 20
            return times
        finally:
            server.terminate()


def _spent(process: psutil.Process, started: float) -> dict[str, float]:
    return {"s": round(time.perf_counter() - started, 2), "cpu_s": round(sum(process.cpu_times()[:2]), 2)}


if __name__ == "__main__":
    main()
