"""`pangu-rl plan` against measured runs: calibrated on two small GRPO runs, it predicts six others.

`measure FOLDER` makes the runs (SmolLM2-135M as it is, rewards drawn so that every group trains, two cores, minutes);
runs that are there stay. `compare FOLDER` fits the model of the step to the runs of CALIBRATION and prints, for the
others, measured and predicted seconds of every phase. What is measured is a run's median over its steps without the
first, which warms up.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]
CALIBRATION = ("one engine, 32 x 256", "one engine, 64 x 64")
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
    f"rewards.functions=[{{name: boxed_accuracy, weight: 0}}, {{name: '{REPO}/benchmarks/drawn.py:drawn'}}]",
]


def measure(folder: Path, steps: int) -> None:
    for name, changes in CASES.items():
        run = folder / name.replace(",", "").replace(" ", "_")
        if (run / "checkpoints").is_dir():
            continue
        config = ["--config", str(REPO / "configs/quickstart/grpo_text.yaml")]
        own = [f"trainer.run_dir={run}", f"trainer.steps={steps}", *SHARED, *changes]
        subprocess.run([sys.executable, "-m", "pangu_rl", "grpo", *config, *own], check=True, cwd=REPO)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.folder.absolute(), args.steps)


if __name__ == "__main__":
    main()
