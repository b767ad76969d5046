"""An ablation of the papers in miniature: a pipeline of `configs/ablation/`, by seeds -> **a table with intervals**.

`python -m benchmarks.learning.ablation coordinates --seeds 3`: what is compared are the pipeline's evaluations, the
others with the first, over all seeds, paired by question and seed. What is done is not done again, since pipelines go
on. Further overrides are the pipeline's: `trainer.steps=20` tries an ablation out. Figure 4(c) is `loss_ablation`;
MindVL's table 8 is `configs/pipeline/mindvl_lengths.yaml`, which prints its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.learning.drawn_places import write_places
from benchmarks.learning.family_learns import run
from benchmarks.learning.loss_ablation import pooled
from benchmarks.learning.mini_pretrain import interval, part
from benchmarks.learning.temporal import write_data
from data_curation.operators.annotations.recode_labels import recoded_row
from pangu_rl.config.load import load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.monitoring.accuracy_table import compare
from pangu_rl.records import Evaluation

CONFIGS = Path("configs/ablation")
ROWS = Path("runs/ablation/rows")
CORPUS = "cache://data/mini_corpus"
CODINGS = {"pixels": (False, False), "thousandths": (True, False), "padded": (True, True)}
"""How the labels of `boxes_<coding>_<split>.jsonl` are written: normalised, padded."""
LENGTHS = range(3, 13)
"""Frames of a clip, as many as the budget of `assemble_words.yaml` has at their least."""
SIDE = 112
"""Pixels of a frame: what three frames may have of that budget, and twice what twelve may."""
BOXES = "plain_boxes-"


def main() -> None:
    names = sorted(path.stem.removeprefix("pipeline_") for path in CONFIGS.glob("pipeline_*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=names)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("overrides", nargs="*", help="key=value, of the pipeline")
    args = parser.parse_intermixed_args()
    path = CONFIGS / f"pipeline_{args.name}.yaml"
    for model in ("tiny-pangu-vl", "mini-pangu-vl"):
        subprocess.run([sys.executable, "-m", "pangu_rl", "curate", model], check=True)
    if not ROWS.is_dir():
        write_rows(ROWS)
    folders = [args.output / args.name / f"seed_{seed}" for seed in range(args.seeds)]
    for seed, folder in enumerate(folders):
        run("pipeline", str(path), f"trainer.run_dir={folder}", f"trainer.seed={seed}", *args.overrides)
        require_different(folder)
    lines = "\n".join(table(read(load_config(PipelineConfig, path), folders)))
    (args.output / args.name / "table.md").write_text(lines + "\n", encoding="utf-8")
    print(lines)


def write_rows(folder: Path) -> None:
    """Clips of several lengths, boxes of one shape in three codings, both mixed, quads, points; whole or not at all."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_data(partial, seed=0, lengths=LENGTHS, side=SIDE)
    write_places(partial, seed=0)
    corpus = resolve_path(CORPUS)
    for split in ("sft", "heldout"):
        lines = (corpus / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["id"].startswith(BOXES)]
        sizes = [_taken(row["images"][0], corpus, partial / "media") for row in rows]
        for coding, how in CODINGS.items():
            coded = [recoded_row(row, size, *how) for row, size in zip(rows, sizes, strict=True)]
            _write(partial / f"boxes_{coding}_{split}.jsonl", coded)
    clips = (partial / "sft.jsonl").read_text(encoding="utf-8")
    boxes = (partial / "boxes_padded_sft.jsonl").read_text(encoding="utf-8")
    (partial / "mixed.jsonl").write_text(clips + boxes, encoding="utf-8")
    partial.rename(folder)


def require_different(folder: Path) -> None:
    """Refuse a comparison of a run with itself: a switch that reaches nothing leaves every loss equal to the bit."""
    losses: dict[tuple[float, ...], str] = {}
    for path in sorted(folder.glob("*_train/metrics.jsonl")):
        curve = tuple(row["train/loss"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()))
        if curve in losses:
            raise SystemExit(f"{folder}: {losses[curve]} and {path.parent.name} have the same losses at every step")
        losses[curve] = path.parent.name


def read(config: PipelineConfig, folders: Sequence[Path]) -> dict[str, list[Evaluation]]:
    """Variant -> the verdicts of all seeds, of each of its sets."""
    found: dict[str, list[Evaluation]] = {}
    for name in (name for name, entry in config.stages.items() if entry.stage == "eval"):
        seeds = [json.loads((folder / name / "evaluations.json").read_text(encoding="utf-8")) for folder in folders]
        found[name] = [pooled([Evaluation(**row) for row in rows]) for rows in zip(*seeds, strict=True)]
    return found


def table(variants: Mapping[str, Sequence[Evaluation]]) -> Iterator[str]:
    """Markdown: a line for each set and source, a column for each variant, with its change from the first one."""
    first, *others = variants
    yield "| set (items) | " + " | ".join(variants) + " |"
    yield "|---|" + "---:|" * len(variants)
    for number, base in enumerate(variants[first]):
        for name, uids in _groups(base).items():
            start = part(base, uids)
            cells = [interval(start), *(_cell(start, part(variants[other][number], uids)) for other in others)]
            yield f"| {name} ({len(uids)}) | " + " | ".join(cells) + " |"
    yield ""
    yield (
        "Accuracy in % of all seeds together with its interval; behind it the change from the first in points. 95 %: "
        "Wilson; paired by question and seed."
    )


def _groups(evaluation: Evaluation) -> dict[str, set[str]]:
    sources = sorted(set(evaluation.sources.values()))
    of_source = {
        f"{evaluation.name}: {source}": {uid for uid, own in evaluation.sources.items() if own == source}
        for source in (sources if len(sources) > 1 else ())
    }
    return {evaluation.name: set(evaluation.correct)} | of_source


def _cell(base: Evaluation, other: Evaluation) -> str:
    change = compare(base, other)
    low, middle, high = (f"{100 * value:+.1f}" for value in (change.low, change.difference, change.high))
    return f"{interval(other)}, {middle} ({low} to {high})"


def _taken(path: str, corpus: Path, media: Path) -> tuple[int, int]:
    """Copy a picture of the corpus; its size."""
    target = media / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(corpus / path, target)
    with Image.open(target) as picture:
        return picture.size


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
