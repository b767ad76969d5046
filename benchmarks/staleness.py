"""What older rollouts do to learning: held-out accuracy of the quickstart by `trainer.max_staleness`.

The same configuration, start, prompts and seeds; only the staleness differs, and the correction that it asks for, which
is on in all of them. Accuracies are those of the last step, over all seeds, with 95 % intervals; differences from the
synchronous runs are paired by question and seed. Beside them how old the tokens were, how far the sampler was from the
learner, and the seconds of a step. Runs that are done are not repeated; one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from pangu_rl.config.load import load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.loops.online.run_grpo import run_grpo
from pangu_rl.monitoring.intervals import paired_difference, wilson

METRICS = ("rollout/staleness_mean", "rollout/staleness_max", "rollout/versions_per_answer", "train/sampler_kl")
PHASES = ("time/rollout", "time/train", "time/sync")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/quickstart/grpo_text.yaml")
    parser.add_argument("--output", type=Path, default=Path("runs/staleness"))
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("overrides", nargs="*", help="key=value, for all runs")
    args = parser.parse_args()
    for seed in range(args.seeds):
        for staleness in args.staleness:
            run_once(args, staleness, seed)
    rows = [summary(args, staleness) for staleness in args.staleness]
    print(json.dumps({"steps": args.steps, "seeds": args.seeds, "runs": rows}, indent=1))
    print(table(rows))


def run_once(args: argparse.Namespace, staleness: int, seed: int) -> None:
    folder = directory(args, staleness, seed)
    if (folder / "evaluations.json").exists():
        return
    overrides = [
        f"trainer.max_staleness={staleness}",
        f"trainer.seed={seed}",
        f"trainer.steps={args.steps}",
        f"trainer.run_dir={folder}",
        "algorithm.correction.high=2.0",
    ]
    run_grpo(load_config(GrpoConfig, args.config, [*overrides, *args.overrides]))


def directory(args: argparse.Namespace, staleness: int, seed: int) -> Path:
    return args.output / f"staleness_{staleness}_seed_{seed}"


def summary(args: argparse.Namespace, staleness: int) -> dict[str, Any]:
    """Figures of all seeds of one staleness."""
    last, steps = {}, []
    for seed in range(args.seeds):
        folder = directory(args, staleness, seed)
        last |= {(seed, uid): right for uid, right in final(folder).items()}
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps += [row for row in map(json.loads, lines) if row["step"] > 0]
    base: dict[tuple[int, str], bool] = {}
    for seed in range(args.seeds):
        base |= {(seed, uid): right for uid, right in final(directory(args, args.staleness[0], seed)).items()}
    gained = sum(last[key] and not base[key] for key in last)
    lost = sum(base[key] and not last[key] for key in last)
    return {
        "staleness": staleness,
        "accuracy": sum(last.values()) / len(last),
        "interval": wilson(sum(last.values()), len(last)),
        "difference": paired_difference(gained, lost, len(last)),
        "step_s": fmean(sum(row.get(phase, 0.0) for phase in PHASES) for row in steps),
        **{name: fmean(row[name] for row in steps if name in row) for name in METRICS},
    }


def final(folder: Path) -> dict[str, bool]:
    """Question -> right, after the last step."""
    return json.loads((folder / "evaluations.json").read_text(encoding="utf-8"))[-1]["correct"]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| staleness | accuracy | to the first | age, mean | age, max | KL to the sampler | step |",
        "|" + "---|" * 7,
    ]
    for row in rows:
        low, high = (100 * bound for bound in row["interval"])
        less, more = (100 * bound for bound in row["difference"])
        lines.append(
            f"| {row['staleness']} | {row['accuracy']:.1%} ({low:.1f} to {high:.1f}) | {less:+.1f} to {more:+.1f} "
            f"| {row['rollout/staleness_mean']:.2f} | {row['rollout/staleness_max']:.2f} "
            f"| {row['train/sampler_kl']:.4f} | {row['step_s']:.1f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
