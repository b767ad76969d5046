"""Verdicts per second and accuracy of the grader beside math-verify as TRL and as verl call it, on the same rows.

Each has graded one row before its clock starts. Hostile rows are timed apart, verl's call in a child that is killed
after `HOSTILE_S`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.grading.grader_peers import VERL_PROCESSES, VERL_TIMEOUT_S, Verdict, trl_verdicts, verl_verdict
from benchmarks.grading.grader_rows import Row, case_rows, drawn_rows, hostile_rows
from pangu_rl.records import Part
from rewards.children import ChildPool
from rewards.grader import Grader
from rewards.isolated import nothing
from rewards.rules.gold import Gold

HOSTILE_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=480, help="drawn groups of eight")
    parser.add_argument("--skip-hostile", action="store_true")
    args = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    rows = drawn_rows(args.groups) + case_rows()
    load = round(os.getloadavg()[0], 2)
    found = {"pangu_rl": ours(rows), "math-verify, TRL": trl(rows), "math-verify, verl": verl(rows)}
    report = {
        "cores": os.cpu_count(),
        "load_before": load,
        "rows": dict(Counter(row.kind for row in rows)),
        "methods": {name: _figures(rows, verdicts, seconds) for name, (verdicts, seconds) in found.items()},
        "peer_right_ours_wrong": _lost_to_a_peer(rows, {name: verdicts for name, (verdicts, _) in found.items()}),
    }
    if not args.skip_hostile:
        report["hostile"] = _hostile()
    print(json.dumps(report, indent=1, ensure_ascii=False))


def ours(rows: Sequence[Row]) -> tuple[list[Verdict], float]:
    async def grade_all(grader: Grader) -> list[Part]:
        return await asyncio.gather(*(grader.agrade(row.prediction, Gold(row.gold)) for row in rows))

    with ChildPool() as pool:
        grader = Grader(pool)
        grader.grade(r"\boxed{\sqrt{2}^2 + y}", Gold("y + 2"))
        start = time.perf_counter()
        parts = asyncio.run(grade_all(grader))
        return [_verdict(part) for part in parts], time.perf_counter() - start


def trl(rows: Sequence[Row]) -> tuple[list[Verdict], float]:
    trl_verdicts(rows[:1])
    start = time.perf_counter()
    return trl_verdicts(rows), time.perf_counter() - start


def verl(rows: Sequence[Row]) -> tuple[list[Verdict], float]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(VERL_PROCESSES, mp_context=spawn) as pool:
        list(pool.map(verl_verdict, rows[:1] * VERL_PROCESSES))
        start = time.perf_counter()
        futures = [pool.submit(verl_verdict, row) for row in rows]
        return [future.result(VERL_TIMEOUT_S) for future in futures], time.perf_counter() - start


def _verdict(part: Part) -> Verdict:
    return None if part.value is None else part.value == 1.0


def _figures(rows: Sequence[Row], verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"rows_per_second": round(len(rows) / seconds, 1), "seconds": round(seconds, 2)}
    for kind in ("drawn", "case"):
        pairs = [(row.right, verdict) for row, verdict in zip(rows, verdicts, strict=True) if row.kind == kind]
        figures[kind] = {
            "accuracy": round(sum(right == verdict for right, verdict in pairs) / len(pairs), 4),
            "false_positives": sum(bool(verdict) and not right for right, verdict in pairs),
            "false_negatives": sum(right and verdict is False for right, verdict in pairs),
            "no_verdict": sum(verdict is None for _, verdict in pairs),
        }
    return figures


def _lost_to_a_peer(rows: Sequence[Row], verdicts: dict[str, list[Verdict]]) -> list[dict[str, Any]]:
    mine = verdicts["pangu_rl"]
    lost = {}
    for name, theirs in verdicts.items():
        for row, our, their in zip(rows, mine, theirs, strict=True):
            if their == row.right != our:
                lost[row.gold, row.prediction[-120:]] = {"by": name, "right": row.right, "ours": our}
    return [{"gold": gold, "prediction": end, **more} for (gold, end), more in lost.items()]


def _hostile() -> dict[str, dict[str, Any]]:
    rows = hostile_rows()
    with ChildPool() as pool:
        grader = Grader(pool)
        grader.grade(r"\boxed{\sqrt{2}^2 + y}", Gold("y + 2"))
        mine = [_timed(lambda row: _verdict(grader.grade(row.prediction, Gold(row.gold))), row) for row in rows]
    with ChildPool(1, HOSTILE_S, 4096, warm_up=nothing) as pool:
        pool.run(verl_verdict, rows[0], deadline_s=60.0)
        theirs = [_timed(lambda row: pool.run(verl_verdict, row), row) for row in rows]
    return {"pangu_rl": _worst(rows, mine), "math-verify, verl": _worst(rows, theirs)}


def _timed(grade: Callable[[Row], Verdict], row: Row) -> tuple[Verdict, float]:
    start = time.perf_counter()
    try:
        verdict = grade(row)
    except Exception:  # a peer that hangs, dies or raises has no verdict; how is not the question here
        verdict = None
    return verdict, time.perf_counter() - start


def _worst(rows: Sequence[Row], found: Sequence[tuple[Verdict, float]]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "wrong": sum(verdict is not None and verdict != row.right for row, (verdict, _) in zip(rows, found)),
        "no_verdict": sum(verdict is None for verdict, _ in found),
        "longest_s": round(max(seconds for _, seconds in found), 3),
        "total_s": round(sum(seconds for _, seconds in found), 3),
    }


if __name__ == "__main__":
    main()
