"""Pipelines of curation, measured: `python -m benchmarks.curation faults|speed|kills|against|effect [--rows N ...]`.

`faults`: precision and recall of each operator on rows with labelled faults. `speed`: rows a second, processor seconds
and peak memory at several sizes, see `speed.py`. `kills`: SIGKILL at a size, see `kills.py`. `against`: beside
datatrove or data-juicer, see `against.py`. `effect`: what faults and filters do to a model that is trained on them, see
`effect.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.curation.against import against
from benchmarks.curation.effect import effect
from benchmarks.curation.faults import Faulty
from benchmarks.curation.kills import kills
from benchmarks.curation.speed import speed
from data_curation.pipeline.run import run_pipeline
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.load import checked
from pangu_rl.config.paths import cache_root

CORPUS = cache_root() / "data/mini_corpus"


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
    """Each operator alone on all rows, so that none finds what is another's; precision counts rows with any fault as
    rightly put aside. What the whole pipeline leaves is told last."""
    with TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        faulty = Faulty(CORPUS, folder, count)
        faulty.write()
        clean = {row["id"] for row in faulty.rows} - faulty.labels.keys()
        print(f"{len(faulty.rows)} rows, {len(faulty.labels)} with a fault")
        print("| operator | faults | found | recall | put aside | clean ones of these | precision |")
        print("|---|---|---|---|---|---|---|")
        listed = operators(folder)
        for number, operator in enumerate(listed):
            name = operator if isinstance(operator, str) else operator["name"]
            aside = put_aside(folder, f"alone{number}", [operator])
            wanted = {uid for uid, label in faulty.labels.items() if label == name}
            wrong = sorted(aside & clean)
            print(
                f"| `{name}` | {len(wanted)} | {len(wanted & aside)} | {len(wanted & aside) / max(1, len(wanted)):.3f} "
                f"| {len(aside)} | {len(wrong)} | {1 - len(wrong) / max(1, len(aside)):.3f} |"
            )
            missed = Counter(uid.rpartition("-")[0] for uid in wanted - aside)
            if missed or wrong:
                print(f"  not found: {dict(missed)}; clean: {wrong[:5]}", file=sys.stderr)
        gone = put_aside(folder, "all", listed)
        found = len(gone & faulty.labels.keys())
        print(f"all: {found} of {len(faulty.labels)} faults found, {len(gone & clean)} of {len(clean)} clean rows gone")


def put_aside(folder: Path, output: str, listed: list) -> set[str]:
    """Ids of the rows that operators drop; what cannot be read is no operator's finding but `decodable_pictures`'."""
    run_pipeline(config(folder / "rows.jsonl", folder / output, listed, media_root=str(folder)))
    lines = (json.loads(line) for file in (folder / output / "dropped").iterdir() for line in file.open())
    return {line["id"] for line in lines if line["kind"] == "drop"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("faults", "speed", "kills", "against", "effect"))
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--keep", type=Path, help="Folder for rows and pictures, and for the report of `faults`.")
    parser.add_argument("--of", choices=("texts", "pictures"), default="texts", help="Of `speed`, `kills`: rows.")
    parser.add_argument("--workers", type=int, default=1, help="Of `speed`, `kills`.")
    parser.add_argument("--output", type=Path, default=Path("runs/curation_effect"), help="Of `effect`.")
    parser.add_argument("--seeds", type=int, default=3, help="Of `effect`.")
    parser.add_argument("--steps", type=int, default=60, help="Of `effect`, of 8 texts each.")
    parser.add_argument(
        "--until", type=float, default=float("inf"), help="Of `effect`: seconds to the last run's begin."
    )
    parser.add_argument("--python", type=Path, help="Of `against`: an interpreter that has the other one.")
    parser.add_argument("--other", choices=("datatrove", "data_juicer"), default="datatrove", help="Of `against`.")
    given = parser.parse_args()
    if given.what == "speed":
        small = [10_000, 30_000, 100_000] if given.of == "texts" else [500, 1500, 5000]
        speed(given.of, given.rows or small, given.workers, given.keep)
    elif given.what == "kills":
        kills(given.of, (given.rows or [10_000])[0], given.workers, given.keep)
    elif given.what == "against":
        if given.python is None:
            parser.error("against needs --python")
        against(given.python, given.other, (given.rows or [3000])[0])
    elif given.what == "effect":
        effect(given.output, given.seeds, given.steps, given.until)
    else:
        faults((given.rows or [400])[0], given.keep)


if __name__ == "__main__":
    main()
