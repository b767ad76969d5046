"""What a setting does to learning: held-out accuracy of the quickstart, run by run, with everything else the same.

`staleness`: by `trainer.max_staleness`, with the correction that it asks for on in all runs; beside accuracy how old
the tokens were and how far the sampler was from the learner. `lora`: adapters against the whole model, at ten times its
rate; beside accuracy the size of a checkpoint. Start, prompts and seeds are the same. Accuracies are of the last step,
over all seeds, with 95 % intervals; differences from the first setting are paired by question and seed. Runs that are
done are not repeated; one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pangu_rl.config.load import load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.loops.online.run_grpo import run_grpo
from pangu_rl.monitoring.intervals import paired_difference, wilson

CORRECTED = "algorithm.correction.high=2.0"
SETTINGS: dict[str, dict[str, Sequence[str]]] = {
    "staleness": {
        f"staleness {versions}": (f"trainer.max_staleness={versions}", CORRECTED) for versions in (0, 1, 2, 4)
    },
    "lora": {
        "whole model": (),
        "rank 16": ("learner.lora.rank=16", "learner.optimizer.lr=2e-4"),
    },
}
"""Overrides of the configuration by the setting's name; the others are compared with the first."""
METRICS = {
    "staleness": (
        "rollout/staleness_mean",
        "rollout/staleness_max",
        "rollout/versions_per_answer",
        "train/sampler_kl",
    ),
    "lora": ("train/sampler_kl", "sync/probe_gap", "time/sync", "time/train"),
}
"""Means over all steps."""
PHASES = ("time/rollout", "time/train", "time/sync")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compared", choices=SETTINGS)
    parser.add_argument("--config", default="configs/quickstart/grpo_text.yaml")
    parser.add_argument("--output", type=Path, default=Path("runs/learning"))
    parser.add_argument("--only", nargs="+", help="names of settings; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("overrides", nargs="*", help="key=value, for all runs")
    args = parser.parse_intermixed_args()
    if unknown := sorted({*(args.only or ())} - {*SETTINGS[args.compared]}):
        parser.error(f"{unknown[0]} is no setting of {args.compared}: {', '.join(SETTINGS[args.compared])}")
    settings = {name: own for name, own in SETTINGS[args.compared].items() if name in (args.only or [name])}
    folders = {
        name: [args.output / f"{name.replace(' ', '_')}_seed_{seed}" for seed in range(args.seeds)] for name in settings
    }
    for seed in range(args.seeds):
        for name, own in settings.items():
            run_once(args, folders[name][seed], [*own, f"trainer.seed={seed}"])
    base = answers(next(iter(folders.values())))
    rows = [summary(name, own, base, METRICS[args.compared]) for name, own in folders.items()]
    print(json.dumps({"steps": args.steps, "seeds": args.seeds, "runs": rows}, indent=1))
    print(table(rows, METRICS[args.compared]))


def run_once(args: argparse.Namespace, folder: Path, own: Sequence[str]) -> None:
    if (folder / "evaluations.json").exists():
        return
    shared = [f"trainer.steps={args.steps}", f"trainer.run_dir={folder}"]
    run_grpo(load_config(GrpoConfig, args.config, [*shared, *own, *args.overrides]))


def summary(
    name: str, folders: Sequence[Path], base: Mapping[tuple[int, str], bool], metrics: Sequence[str]
) -> dict[str, Any]:
    """Figures of all seeds of one setting."""
    last, steps = answers(folders), []
    for folder in folders:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps += [row for row in map(json.loads, lines) if row["step"] > 0]
    gained = sum(last[key] and not base[key] for key in last)
    lost = sum(base[key] and not last[key] for key in last)
    return {
        "setting": name,
        "accuracy": sum(last.values()) / len(last),
        "interval": wilson(sum(last.values()), len(last)),
        "difference": paired_difference(gained, lost, len(last)),
        "step_s": fmean(sum(row.get(phase, 0.0) for phase in PHASES) for row in steps),
        "checkpoint_mb": checkpoint_bytes(folders[0]) / 1e6,
        **{metric: fmean(row[metric] for row in steps if metric in row) for metric in metrics},
    }


def answers(folders: Sequence[Path]) -> dict[tuple[int, str], bool]:
    """(seed, question) -> right, after the last step."""
    found: dict[tuple[int, str], bool] = {}
    for seed, folder in enumerate(folders):
        last = json.loads((folder / "evaluations.json").read_text(encoding="utf-8"))[-1]
        found |= {(seed, uid): right for uid, right in last["correct"].items()}
    return found


def checkpoint_bytes(folder: Path) -> int:
    """Of the newest checkpoint, all of its files."""
    newest = max((folder / "checkpoints").glob("step_*"))
    return sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())


def table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
    head = ["setting", "accuracy", "to the first", "step", "checkpoint", *metrics]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        low, high = (100 * bound for bound in row["interval"])
        less, more = (100 * bound for bound in row["difference"])
        cells = [
            row["setting"],
            f"{row['accuracy']:.1%} ({low:.1f} to {high:.1f})",
            f"{less:+.1f} to {more:+.1f}",
            f"{row['step_s']:.1f} s",
            f"{row['checkpoint_mb']:,.0f} MB",
            *(f"{row[metric]:.4f}" for metric in metrics),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
