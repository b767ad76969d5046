"""Ours against datatrove or data-juicer (PyPI) on the same rows, by turns: speed, and what each finds of faults.

`python -m benchmarks.curation against --python OTHER/bin/python [--other data_juicer]` with an environment of its own
that has datatrove, spacy, tokenizers and orjson, or py-data-juicer and what it asks for; this one does not need them.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.curation.faults import prose

WORDS = 200
"""Of a document."""
SPOILED = 0.05
"""Share of the rows that loop, and as many that are an earlier one with every 50th word another."""
TURNS = 3


def against(python: Path, name: str, count: int) -> None:
    with TemporaryDirectory() as scratch:
        source = Path(scratch) / "rows.jsonl"
        rows = made_rows(count)
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], name: []}
        for turn in range(TURNS):
            commands = {
                "ours": [sys.executable, "-m", "benchmarks.curation.against"],
                name: [str(python), str(Path(__file__).with_name(f"with_{name}.py"))],
            }
            for whose, command in commands.items():
                runs[whose].append(_run([*command, str(source), str(Path(scratch) / f"{whose}{turn}")]))
    for step in ("repetition", "near_duplicates"):
        seconds = {whose: min(run[step]["cpu"] for run in found) for whose, found in runs.items()}
        print(f"{step}: {seconds[name] / seconds['ours']:.2f} times {name}'s rows per processor second")
        for whose, found in runs.items():
            print(f"  {whose:11s} {seconds[whose]:6.2f} s  {_told(found[0][step]['gone'], rows, step)}")


def made_rows(count: int) -> list[dict[str, str]]:
    """`clean-n`, `loop-n`, and `again-n`, which are behind what they repeat."""
    draw, texts = random.Random(0), [text.split() for text in prose(2000)]
    rows = [{"id": f"clean-{n}", "document": " ".join(_words(draw, texts))} for n in range(count)]
    each = int(SPOILED * count)
    for number, row in enumerate(draw.sample(rows, each)):
        words = row["document"].split()
        end = words[-draw.randint(3, 12) :]
        rows.append({"id": f"loop-{number}", "document": " ".join(words + end * (2 * WORDS // len(end)))})
    for number, row in enumerate(draw.sample(rows[:count], each)):
        words = row["document"].split()
        words[::50] = ["other"] * len(words[::50])
        rows.append({"id": f"again-{number}", "document": " ".join(words)})
    return rows


def _words(draw: random.Random, texts: list[list[str]]) -> list[str]:
    found: list[str] = []
    while len(found) < WORDS:
        words = draw.choice(texts)
        start = draw.randrange(max(1, len(words) - 12))
        found += words[start : start + 12]
    return found


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def _told(gone: list[str], rows: list[dict[str, str]], step: str) -> str:
    fault = "loop" if step == "repetition" else "again"
    wanted = {row["id"] for row in rows if row["id"].startswith(fault)}
    clean = sum(uid.startswith("clean") for uid in gone)
    return f"{len(wanted & set(gone))} of {len(wanted)} found, {clean} of {len(rows) - 2 * len(wanted)} clean rows gone"


def _ours(source: Path, output: Path) -> dict[str, Any]:
    from data_curation.pipeline.run import run_pipeline
    from pangu_rl.config.curate import CurateConfig
    from pangu_rl.config.load import checked

    found = {}
    for step, name in (("repetition", "repetition"), ("near_duplicates", "near_duplicate_texts")):
        folder = output / step
        tree = {"input": [str(source)], "output": str(folder), "operators": [{"name": name}], "max_error_rate": 1.0}
        started = time.process_time()
        run_pipeline(checked(CurateConfig, tree, "benchmark"))
        cpu = time.process_time() - started
        lines = [json.loads(line) for file in sorted((folder / "dropped").iterdir()) for line in file.open()]
        found[step] = {"cpu": cpu, "gone": [line["id"] for line in lines]}
        source = folder / "rows"
    return found


if __name__ == "__main__":
    print(json.dumps(_ours(Path(sys.argv[1]), Path(sys.argv[2]))))
