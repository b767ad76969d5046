"""Stages of training by blocks of questions, as openPangu-VL's table 6: evaluations of pipelines -> **markdown**.

    python -m benchmarks.learning.stage_blocks runs/mini_pretrain runs/pipeline_vl

A line for each stage of the pipelines, one after the other; a column for each block of the mini-corpus, and their mean.
The controls that a pipeline has, blank pictures and frames out of order, stand in lines of their own at the end.
"""

from __future__ import annotations

import argparse
import json
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
    "grounding: boxes": ("grounding",),
    "grounding: quads": ("quads",),
    "pointing": ("pointing",),
    "counting": ("counting",),
    "counting by pointing": ("point_counts",),
    "depth": ("depth",),
    "video": ("video",),
}
"""Column -> the sources of its rows, or the families that stand apart from their source."""
APART = ("quads", "point_counts")
CONTROLS = {"blank": "blank pictures", "shuffled": "frames out of order"}
"""Set of an evaluation -> what was done to its rows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", type=Path, nargs="+", help="of pipelines with evaluations, in their order")
    stages: dict[str, Sets] = {}
    for folder in parser.parse_args().run_dirs:
        names = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
        stages |= {name: read_sets(folder / "evaluations" / name) for name in names if _evaluated(folder, name)}
    print("\n".join(table(stages)))


def table(stages: Mapping[str, Sets]) -> Iterator[str]:
    yield "| stage | " + " | ".join(BLOCKS) + f" | mean of {len(BLOCKS)} |"
    yield "|---|" + "---:|" * (len(BLOCKS) + 1)
    for name, sets in stages.items():
        yield _line(name, next(one for kind, one in sets.items() if kind not in CONTROLS))
    for kind, done in CONTROLS.items():
        if having := [name for name, sets in stages.items() if kind in sets]:
            yield _line(f"{having[-1]}, {done}", stages[having[-1]][kind])
    yield ""
    yield "Accuracy in %, 95 % intervals by Wilson; the mean is of the blocks, however many items each has."


def _line(name: str, evaluation: Evaluation) -> str:
    parts = [part(evaluation, _items(evaluation, sources)) for sources in BLOCKS.values()]
    cells = [interval(one) if one.correct else "-" for one in parts]
    shares = [100 * one.accuracy for one in parts if one.correct]
    return "| " + " | ".join([name, *cells, f"{fmean(shares):.1f}" if len(shares) > 1 else "-"]) + " |"


def _items(evaluation: Evaluation, kinds: Sequence[str]) -> set[str]:
    return {uid for uid, source in evaluation.sources.items() if _kind(uid, source) in kinds}


def _kind(uid: str, source: str) -> str:
    """Rows of the corpus are named `FAMILY-SPLIT-NUMBER`."""
    family = uid.partition("-")[0]
    return family if family in APART else source


def _evaluated(folder: Path, name: str) -> bool:
    return (folder / "evaluations" / name / "evaluations.json").is_file()


if __name__ == "__main__":
    main()
