"""What a pipeline's models see: its evaluations -> **sees.md, categories by stages, and sees.png, the curves**.

    python -m benchmarks.learning.mini_pretrain runs/mini_pretrain

Each held-out row is asked with its picture and with a blank one. Seeing is the difference, paired by item. The first
grade (`plain_*`: plain shapes on a plain ground) also stands apart from the other questions of its category.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pangu_rl.monitoring.accuracy_table import compare
from pangu_rl.monitoring.intervals import wilson
from pangu_rl.monitoring.sinks import METRICS, read_metrics
from pangu_rl.records import Evaluation

FIRST_GRADE = "plain_"
DRAWN = ("counting", "grounding", "vqa")
"""Categories with a panel of their own."""

Sets = dict[str, Evaluation]
"""`pictures` and `blank`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="of a pipeline with evaluations")
    run_dir = parser.parse_args().run_dir
    stages = list(json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["stages"])
    models = {name: read_sets(run_dir / "evaluations" / name) for name in ("start", *stages)}
    text = "\n".join(table(models)) + "\n"
    (run_dir / "sees.md").write_text(text, encoding="utf-8")
    plot(models, {name: run_dir / name for name in stages}, run_dir / "sees.png")
    print(text)


def read_sets(folder: Path) -> Sets:
    rows = json.loads((folder / "evaluations.json").read_text(encoding="utf-8"))
    return {row["name"]: Evaluation(**row) for row in rows}


def table(models: dict[str, Sets]) -> Iterator[str]:
    """Markdown: a row for each category, a column for each model with `pictures / blank` in %."""
    *_, last = models.values()
    yield "| category (items) | " + " | ".join(models) + " | last, with pictures | blank | sees, points |"
    yield "|---|" + "---:|" * (len(models) + 3)
    for name, uids in groups(last["pictures"]).items():
        cells = [f"{percent(sets['pictures'], uids)} / {percent(sets['blank'], uids)}" for sets in models.values()]
        seen, blank = (part(last[kind], uids) for kind in ("pictures", "blank"))
        change = compare(blank, seen)
        sees = f"{100 * change.difference:+.1f} ({100 * change.low:+.1f}, {100 * change.high:+.1f})"
        yield "| " + " | ".join([f"{name} ({len(uids)})", *cells, interval(seen), interval(blank), sees]) + " |"
    yield ""
    yield "Cells: accuracy in %, with pictures / with blank ones; 95 % intervals: Wilson, and paired by item."


def groups(evaluation: Evaluation) -> dict[str, set[str]]:
    """Name -> ids of items: all, each category, and of one with a first grade also that and the rest."""
    found = {"all": set(evaluation.correct)}
    for source in sorted(set(evaluation.sources.values())):
        uids = {uid for uid in evaluation.correct if evaluation.sources[uid] == source}
        first = {uid for uid in uids if uid.startswith(FIRST_GRADE)}
        found[source] = uids
        if first:
            found |= {f"{source}: first grade": first, f"{source}: the rest": uids - first}
    return found


def part(evaluation: Evaluation, uids: set[str]) -> Evaluation:
    correct = {uid: right for uid, right in evaluation.correct.items() if uid in uids}
    return Evaluation(name=evaluation.name, step=evaluation.step, correct=correct)


def percent(evaluation: Evaluation, uids: set[str]) -> str:
    return f"{100 * part(evaluation, uids).accuracy:.0f}"


def interval(evaluation: Evaluation) -> str:
    right, items = sum(evaluation.correct.values()), len(evaluation.correct)
    low, high = wilson(right, items)
    return f"{100 * right / items:.1f} ({100 * low:.1f} - {100 * high:.1f})"


def plot(models: dict[str, Sets], folders: dict[str, Path], path: Path) -> None:
    """The loss over the steps of all stages, and the accuracy after each stage with and without pictures."""
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1)
    _losses(above.add_subplot(), folders)
    *_, last = models.values()
    for index, source in enumerate(DRAWN):
        uids = groups(last["pictures"])[source]
        _accuracies(below.add_subplot(1, len(DRAWN), index + 1), source, uids, models)
    figure.savefig(path, dpi=110)


def _losses(axes: Axes, folders: dict[str, Path]) -> None:
    done = 0
    for name, folder in folders.items():
        rows = read_metrics(folder / METRICS)
        steps = range(done, done + len(rows))
        axes.plot(steps, [row.get("train/nll", row["train/loss"]) for row in rows], linewidth=0.8, label=name)
        done += len(rows)
    axes.set_title("Loss: of clusters in the vision-only stage, then nats per token", fontsize=10)
    axes.set_xlabel("steps of all stages")
    axes.legend(fontsize=8, ncols=len(folders), frameon=False)
    axes.grid(alpha=0.25)


def _accuracies(axes: Axes, source: str, uids: set[str], models: dict[str, Sets]) -> None:
    for kind, colour in (("pictures", "tab:blue"), ("blank", "tab:gray")):
        shares = [part(sets[kind], uids) for sets in models.values()]
        levels = [100 * share.accuracy for share in shares]
        ends = [wilson(sum(share.correct.values()), len(share.correct)) for share in shares]
        below = [max(level - 100 * low, 0.0) for level, (low, _) in zip(levels, ends, strict=True)]
        above = [max(100 * high - level, 0.0) for level, (_, high) in zip(levels, ends, strict=True)]
        axes.errorbar(range(len(models)), levels, yerr=[below, above], color=colour, capsize=3, marker="o", label=kind)
    axes.set_title(f"{source} ({len(uids)})", fontsize=10)
    axes.set_xticks(range(len(models)), list(models), rotation=40, ha="right", fontsize=8)
    axes.set_ylabel("accuracy, %", fontsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    main()
