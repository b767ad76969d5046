"""Stages of training by blocks of questions, as openPangu-VL's table 6: evaluations of pipelines -> **markdown**.

    python -m benchmarks.learning.stage_blocks runs/mini_pretrain runs/pipeline_vl

A line for each stage of the pipelines, one after the other; a column for each block of the mini-corpus' categories, and
their mean. Blank pictures, where a pipeline has them, stand in a line of their own behind the last stage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.learning.mini_pretrain import Sets, interval, part, read_sets
from pangu_rl.records import Evaluation

BLOCKS: dict[str, tuple[str, ...]] = {
    "VQA": ("vqa", "caption"),
    "OCR, documents": ("ocr", "document", "screenshot"),
    "charts, tables": ("chart", "table"),
    "STEM, text": ("stem", "text", "dialogue"),
    "several pictures": ("several", "interleaved"),
    "grounding": ("grounding",),
    "pointing": ("pointing",),
    "counting": ("counting",),
    "depth": ("depth",),
    "video": ("video",),
}
BLANK = "blank"


def main() -> None:
    stages: dict[str, Sets] = {}
    for folder in map(Path, sys.argv[1:]):
        names = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
        stages |= {name: read_sets(folder / "evaluations" / name) for name in names if _evaluated(folder, name)}
    print("\n".join(table(stages)))


def table(stages: Mapping[str, Sets]) -> Iterator[str]:
    yield "| stage | " + " | ".join(BLOCKS) + f" | mean of {len(BLOCKS)} |"
    yield "|---|" + "---:|" * (len(BLOCKS) + 1)
    for name, sets in stages.items():
        yield _line(name, next(one for kind, one in sets.items() if kind != BLANK))
    with_blank = [name for name, sets in stages.items() if BLANK in sets]
    if with_blank:
        yield _line(f"{with_blank[-1]}, blank", stages[with_blank[-1]][BLANK])
    yield ""
    yield "Accuracy in %, 95 % intervals by Wilson; the mean is of the blocks, however many items each has."


def _line(name: str, evaluation: Evaluation) -> str:
    parts = [part(evaluation, _items(evaluation, sources)) for sources in BLOCKS.values()]
    cells = [interval(one) if one.correct else "-" for one in parts]
    mean = fmean(100 * one.accuracy for one in parts if one.correct)
    return "| " + " | ".join([name, *cells, f"{mean:.1f}"]) + " |"


def _items(evaluation: Evaluation, sources: Sequence[str]) -> set[str]:
    return {uid for uid, source in evaluation.sources.items() if source in sources}


def _evaluated(folder: Path, name: str) -> bool:
    return (folder / "evaluations" / name / "evaluations.json").is_file()


if __name__ == "__main__":
    main()
