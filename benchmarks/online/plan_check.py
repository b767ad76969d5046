"""`pangu-rl plan` against measured runs: calibrated on two small GRPO runs, it predicts six others.

`measure FOLDER` makes the runs (SmolLM2-135M as it is, rewards drawn so that every group trains, two cores, minutes);
runs that are there stay. `compare FOLDER` fits the model of the step to the runs of CALIBRATION, a small step and a
large one, and prints measured and predicted seconds of every phase of all. A step is predicted from its own lengths.
What other processes take of a machine makes a step slower and never faster: of a run the quieter half of its steps
counts, phase by phase, as in the fit, without the first step, which warms up; `spread` says how much the noisier half
took more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from pangu_rl.cluster.jobs import load_profile
from pangu_rl.simulation.case import read_case
from pangu_rl.simulation.measured import MeasuredRun, MeasuredStep, read_run, rollout_parts, train_parts
from pangu_rl.simulation.placements import Case
from pangu_rl.simulation.rates import GIGA

REPO = Path(__file__).parents[2]
CALIBRATION = ("one engine, 32 x 64", "one engine, 64 x 128")
CASES: dict[str, list[str]] = {
    "one engine, 32 x 256": ["rollout.max_new_tokens=256"],
    "one engine, 64 x 64": ["trainer.prompts_per_step=8"],
    "one engine, 32 x 64": [],
    "one engine, 64 x 128": ["trainer.prompts_per_step=8", "rollout.max_new_tokens=128"],
    "two engines, 64 x 128": ["trainer.prompts_per_step=8", "rollout.max_new_tokens=128", "rollout.actors=2"],
    "two mini-batches, 64 x 128": [
        "trainer.prompts_per_step=8",
        "rollout.max_new_tokens=128",
        "algorithm.mini_batches=2",
    ],
    "two ranks, 64 x 128": ["trainer.prompts_per_step=8", "rollout.max_new_tokens=128", "learner.ranks=2"],
    "16 at once, 64 x 128": [
        "trainer.prompts_per_step=8",
        "rollout.max_new_tokens=128",
        "rollout.max_concurrent=16",
    ],
}
"""Name of a run, answers x the most tokens of each -> what it changes."""
SHARED = [
    "start=null",
    "data.heldout=null",
    "data.shuffle=true",
    "trainer.prompts_per_step=4",
    "rollout.max_new_tokens=64",
    "rollout.max_model_tokens=512",
    "learner.pack_tokens=4096",
    "monitoring.live=false",
    "monitoring.tensorboard=false",
    # Weight 0 and yet there: rows are checked for how boxed_accuracy grades their own gold.
    f"rewards.functions=[{{name: boxed_accuracy, weight: 0}}, {{name: '{REPO}/benchmarks/online/drawn.py:drawn'}}]",
]


def measure(folder: Path, steps: int) -> None:
    for name, changes in CASES.items():
        run = run_dir(folder, name)
        if (run / "checkpoints").is_dir():
            continue
        config = ["--config", str(REPO / "configs/quickstart/grpo_text.yaml")]
        own = [f"trainer.run_dir={run}", f"trainer.steps={steps}", *SHARED, *changes]
        subprocess.run([sys.executable, "-m", "pangu_rl", "grpo", *config, *own], check=True, cwd=REPO)


def run_dir(folder: Path, name: str) -> Path:
    return folder / name.replace(",", "").replace(" ", "_")


def compare(folder: Path, profile: str) -> list[dict[str, object]]:
    """[run x phase] -> seconds measured and predicted, of one step."""
    runs = {name: read_run(run_dir(folder, name)) for name in CASES}
    first = runs[CALIBRATION[0]]
    case = read_case(first.config, load_profile(profile), None, [run_dir(folder, name) for name in CALIBRATION])
    rows = []
    for name, run in runs.items():
        own = replace(case, config=run.config)
        for phase, predicted in PHASES.items():
            pairs = [(predicted(own, run, step), getattr(step, phase)) for step in run.steps]
            pairs.sort(key=lambda pair: pair[1] / pair[0])
            half = (len(pairs) + 1) // 2
            quiet, noisy = (fmean(m / p for p, m in part) for part in (pairs[:half], pairs[half:]))
            rows.append(
                {
                    "run": name,
                    "phase": phase.removesuffix("_s"),
                    "measured_s": round(fmean(m for _, m in pairs[:half]), 2),
                    "predicted_s": round(fmean(p for p, _ in pairs[:half]), 2),
                    "off": round(1 / quiet - 1, 3),
                    "spread": round(noisy / quiet - 1, 2),
                    "fitted": name in CALIBRATION,
                }
            )
    return rows


def rollout_s(case: Case, run: MeasuredRun, step: MeasuredStep) -> float:
    rest, steps, sequences = rollout_parts(case, run, step)
    return rest + steps * case.constants.step_s + sequences * case.constants.sequence_s


def train_s(case: Case, run: MeasuredRun, step: MeasuredStep) -> float:
    rest, arithmetic, updates = train_parts(case, run, step)
    return rest + arithmetic / case.constants.learner_share + updates * case.constants.update_s


def sync_s(case: Case, run: MeasuredRun, step: MeasuredStep) -> float:
    return case.constants.sync_s + case.model.weight_bytes / (case.constants.sync_gb_s * GIGA)


PHASES = {"rollout_s": rollout_s, "train_s": train_s, "sync_s": sync_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--profile", default="local")
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.folder.absolute(), args.steps)
        return
    rows = compare(args.folder, args.profile)
    for row in rows:
        print(json.dumps(row))
    foretold = [abs(row["off"]) for row in rows if not row["fitted"] and row["phase"] != "sync"]
    print(json.dumps({"worst_of_foretold": max(foretold), "mean_of_foretold": round(fmean(foretold), 3)}))


if __name__ == "__main__":
    main()
