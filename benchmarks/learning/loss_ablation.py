"""What the loss does to short answers (openPangu-VL, figure 4c): token mean, token and sample mean, both reweighted.

The miniature openPangu-VL first learns to see colours (the SFT stage, one run for all). Then it is fine-tuned on a
mixture of three short answers (the number of a colour, which it has never been asked for, some 5 tokens) to one long
one (the documentation of a Python function, some 120 tokens) under each of the three losses of eq. (1), with the same
start and, for a seed, the same rows in the same order. The evaluation measures the short answers on held-out questions;
differences are paired by question and seed. Runs that are done are not repeated, one that was interrupted goes on, and
`--until` stops before the next one.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from pangu_rl.cluster.ray_runtime import session
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.config.stages import SftConfig
from pangu_rl.loops.evaluation.run_eval import run_eval
from pangu_rl.loops.supervised.run_sft import run_sft
from pangu_rl.monitoring.accuracy_table import compare
from pangu_rl.monitoring.intervals import wilson
from pangu_rl.records import Evaluation

COLOURS = "cache://data/easy_vqa"
MODEL = "cache://models/tiny-pangu-vl"
MODULES = ("numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "statistics", "textwrap", "subprocess")
NAMES = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
NUMBERS = {name: str(number) for number, name in enumerate(NAMES, start=1)}
SHORT_TO_LONG = 3
LONG_CHARS = 400
LOSSES: dict[str, dict[str, Any]] = {
    "per token": {"average": "token"},
    "both": {"average": "balanced", "tau_order": 0.0, "tau_magnitude": 0.0},
    "both, reweighted": {"average": "balanced"},
}
"""With both temperatures 0 every token weighs the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/loss_ablation"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--start-steps", type=int, default=60, help="of 64 colours each")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--sequences", type=int, default=24, help="per step")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--questions", type=int, default=512, help="held-out, at most")
    parser.add_argument("--until", type=float, default=float("inf"), help="seconds after which no run is begun")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    write_rows(args.output)
    with session(ClusterConfig(object_store_gib=0.3)):
        evaluations = all_runs(args)
    Console(stderr=True).print(table(evaluations))
    report = {"short_share_of_trained_tokens": short_share(args.output / "mixture.jsonl"), **figures(evaluations)}
    print(json.dumps(report, indent=1))


def all_runs(args: argparse.Namespace) -> dict[str, list[Evaluation]]:
    """The start, and every loss with every seed; those that are done are only read."""
    deadline = time.monotonic() + args.until
    start = train(args.output / "start", start_config(args.start_steps))
    evaluations = {"start": [evaluated(start, args.questions)]}
    for seed in range(args.seeds):
        for name, algorithm in LOSSES.items():
            if time.monotonic() > deadline:
                sys.exit("not all runs are done; the same command goes on")
            config = mixture_config(args, newest(start), algorithm, seed)
            run = train(args.output / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}", config)
            evaluations.setdefault(name, []).append(evaluated(run, args.questions))
            print(f"seed {seed}, {name}: {evaluations[name][-1].accuracy:.3f}", file=sys.stderr)
    return evaluations


def start_config(steps: int) -> dict[str, Any]:
    """The start of the quickstart with pictures."""
    data = {"train": f"{COLOURS}/sft.jsonl", "media_root": COLOURS, "max_tokens": 128}
    trainer = {"steps": steps, "sequences_per_step": 64}
    return stage(MODEL, data, trainer, {"lr": 1e-3, "schedule": "linear", "warmup_steps": 10}, {})


def mixture_config(args: argparse.Namespace, start: Path, algorithm: dict[str, Any], seed: int) -> dict[str, Any]:
    data = {"train": str(args.output / "mixture.jsonl"), "media_root": COLOURS, "max_tokens": 512}
    trainer = {"steps": args.steps, "sequences_per_step": args.sequences, "seed": seed}
    return stage(str(start), data, trainer, {"lr": args.lr, "schedule": "linear", "warmup_steps": 4}, algorithm)


def stage(model: str, data: dict, trainer: dict, optimizer: dict, algorithm: dict) -> dict[str, Any]:
    return {
        "model": {"path": model},
        "data": data,
        "algorithm": algorithm,
        "learner": {"pack_tokens": 4096, "optimizer": optimizer, "cpu_threads": len(os.sched_getaffinity(0))},
        "trainer": trainer,
        "monitoring": {"tensorboard": False},
    }


def train(run: Path, config: dict[str, Any]) -> Path:
    """The run directory, with the last step's checkpoint in it."""
    config["trainer"]["run_dir"] = str(run)
    if not (run / "checkpoints" / f"step_{config['trainer']['steps']:06d}" / "hf" / "config.json").is_file():
        run_sft(checked(SftConfig, config, run.name))
    return run


def evaluated(run: Path, questions: int) -> Evaluation:
    """Verdicts on the held-out colours under the run's last weights."""
    folder = run / "eval"
    if not (folder / "evaluations.json").is_file():
        config = {
            "model": {"path": str(newest(run))},
            "data": {
                "sets": {"numbers": str(run.parent / "heldout.jsonl")},
                "media_root": COLOURS,
                "max_prompt_tokens": 128,
                "limit": questions,
            },
            "rollout": {"max_new_tokens": 16, "max_model_tokens": 160, "kv_cache_gib": 0.5},
            "trainer": {"run_dir": str(folder)},
            "monitoring": {"tensorboard": False},
        }
        run_eval(checked(EvalConfig, config, run.name))
    [row] = json.loads((folder / "evaluations.json").read_text(encoding="utf-8"))
    return Evaluation(**row)


def newest(run: Path) -> Path:
    """The exported model of the run's last checkpoint."""
    return max(run.glob("checkpoints/step_*/hf"))


def write_rows(output: Path) -> None:
    """`mixture.jsonl`, three rows of colours to each of documentation, and `heldout.jsonl`."""
    rows = list(documentation())
    short = numbered("sft")
    rows += Random(0).sample(short, min(len(short), SHORT_TO_LONG * len(rows)))
    for name, some in (("mixture", rows), ("heldout", numbered("heldout"))):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (output / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def numbered(split: str) -> list[dict[str, Any]]:
    """Rows of colours that ask for the colour's number."""
    text = (resolve_path(COLOURS) / f"{split}.jsonl").read_text(encoding="utf-8")
    for name, number in NUMBERS.items():
        text = text.replace(f"boxed{{{name}}}", f"boxed{{{number}}}")
        text = text.replace(f'"answer": "{name}"', f'"answer": "{number}"')
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        row["messages"][0]["content"][1]["text"] += " Give its number."
    return rows


def documentation() -> Iterator[dict[str, Any]]:
    """Rows with long answers, each function once."""
    seen = set()
    for module in MODULES:
        for name, value in sorted(vars(importlib.import_module(module)).items()):
            text = inspect.getdoc(value) if callable(value) and not name.startswith("_") else None
            if text is None or len(text) < LONG_CHARS or text[:LONG_CHARS] in seen:
                continue
            seen.add(text[:LONG_CHARS])
            yield {
                "id": f"{module}.{name}",
                "messages": [
                    {"role": "user", "content": f"What does {module}.{name} do?"},
                    {"role": "assistant", "content": text[:LONG_CHARS]},
                ],
                "source": "documentation",
            }


def short_share(path: Path) -> float:
    """Part of the trained tokens that are of short answers: what the token mean gives them of the loss."""
    from pangu_rl.data.chat_template import ChatTemplate

    template = ChatTemplate(resolve_path(MODEL))
    tokens = {"colour": 0, "documentation": 0}
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            tokens[row["source"]] += sum(template.encode_conversation(row["messages"])[1])
    return round(tokens["colour"] / sum(tokens.values()), 4)


def pooled(evaluations: list[Evaluation]) -> Evaluation:
    """The verdicts of all seeds as one evaluation, so that comparisons are paired by question and seed."""
    correct = {f"{seed}/{uid}": right for seed, one in enumerate(evaluations) for uid, right in one.correct.items()}
    sources = {f"{seed}/{uid}": source for seed, one in enumerate(evaluations) for uid, source in one.sources.items()}
    return Evaluation(name=evaluations[0].name, step=0, correct=correct, sources=sources)


def figures(evaluations: dict[str, list[Evaluation]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, seeds in evaluations.items():
        accuracies = [one.accuracy for one in seeds]
        found[name] = {"seeds": [round(one, 4) for one in accuracies], "mean": round(mean(accuracies), 4)}
        if name in LOSSES and name != "per token":
            change = compare(pooled(evaluations["per token"]), pooled(seeds))
            found[name]["over_per_token"] = [round(x, 4) for x in (change.difference, change.low, change.high)]
    return found


def table(evaluations: dict[str, list[Evaluation]]) -> Table:
    drawn = Table(title="Held-out short answers, %", caption="95 % intervals; over the token mean: paired by question")
    for header in ("loss", "seeds", "mean", "points over per token"):
        drawn.add_column(header, justify="left" if header == "loss" else "right", no_wrap=True)
    for name, found in figures(evaluations).items():
        verdicts = pooled(evaluations[name]).correct
        low, high = wilson(sum(verdicts.values()), len(verdicts))
        over = found.get("over_per_token")
        drawn.add_row(
            name,
            " ".join(f"{100 * one:.1f}" for one in found["seeds"]),
            f"{100 * found['mean']:.1f} ({100 * low:.1f} - {100 * high:.1f})",
            "{:+.1f} ({:+.1f}, {:+.1f})".format(*(100 * x for x in over)) if over else "",
        )
    return drawn


if __name__ == "__main__":
    main()
