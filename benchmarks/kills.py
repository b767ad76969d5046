"""Kills and stops of a run of two engines, two reward workers and two learner ranks: **seconds lost by each**.

Every case is a GRPO run of the real command on the two-layer model. Once step 2 is stored, a process is hit while it
does what it is there for; the run, or the same command again where the driver was hit, must end with the rollouts and
the weights of a run that nothing was done to, to the bit. `python -m benchmarks.kills` prints the table.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from tests.builders import build_tiny_model
from tests.e2e import runs

STEPS = 5
PATIENCE_S = 400.0


@dataclass(frozen=True, slots=True)
class Loss:
    """What is done to whom."""

    victim: str
    """How the title of its process begins; `driver` is the command itself, with all that it has started."""
    number: signal.Signals = signal.SIGKILL


LOSSES = {
    "engine in mid-answer": Loss("ray::RolloutActor.generate"),
    "reward worker": Loss("ray::RewardService"),
    "learner rank in mid-update": Loss("ray::LearnerActor.update"),
    "learner rank stopped": Loss("ray::LearnerActor.update", signal.SIGSTOP),
    "driver": Loss("driver"),
}
SILENCE_S = 10.0
"""Of a stopped rank; the default is 300."""


def write_config(folder: Path, model: Path, **sections: dict[str, Any]) -> Path:
    """Five steps of 4 prompts, two mini-batches each, a checkpoint after every second step."""
    settings: dict[str, dict[str, Any]] = {
        "rollout": {"actors": 2, "kv_cache_gib": 0.05},
        "rewards": {"workers": 2},
        "algorithm": {"mini_batches": 2},
        "learner": {"ranks": 2, "optimizer": {"lr": 0.01}, "pack_tokens": 256},
        "trainer": {
            "run_dir": str(folder / "run"),
            "steps": STEPS,
            "prompts_per_step": 4,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
            "silence_s": SILENCE_S,
        },
    }
    merged = {name: settings.get(name, {}) | sections.get(name, {}) for name in settings | sections}
    return runs.write_config(folder, model, **merged)


def lose(config: Path, run_dir: Path, loss: Loss) -> float:
    """Seconds of the run with the loss in it, to its end; that of the command that goes on included."""
    started = time.monotonic()
    if loss.victim == "driver":
        runs.run_until_killed("grpo", config, when=lambda: stored(run_dir) >= 2)
        done = runs.run("grpo", config, timeout=PATIENCE_S)
        code, errors = done.returncode, done.stderr
    else:
        driver = subprocess.Popen(runs.command("grpo", config), cwd=runs.REPO, stderr=subprocess.PIPE, text=True)
        hit(driver, run_dir, loss)
        _, errors = driver.communicate(timeout=PATIENCE_S)
        code = driver.returncode
    if code:
        raise SystemExit(f"{loss}: the run ended with {code}: {errors[-2000:]}")
    return time.monotonic() - started


def hit(driver: subprocess.Popen[str], run_dir: Path, loss: Loss, after: int = 2) -> int:
    """Signal the first process whose title says that it is at work, once step `after` is stored; returns its pid."""
    deadline = time.monotonic() + PATIENCE_S
    while driver.poll() is None and time.monotonic() < deadline:
        if stored(run_dir) >= after:
            for process in psutil.Process(driver.pid).children(recursive=True):
                try:
                    if " ".join(process.cmdline()).startswith(loss.victim):
                        process.send_signal(loss.number)
                        return process.pid
                except psutil.NoSuchProcess:
                    continue
        time.sleep(0.001)
    raise SystemExit(f"{loss.victim} was never seen at work")


def stored(run_dir: Path) -> int:
    """Steps whose rollouts are stored."""
    return len(list((run_dir / "rollouts").glob("step_*.parquet")))


def differences(ours: Path, theirs: Path) -> list[str]:
    """What of two finished runs is not the same."""
    found = ["rollouts"] if runs.rollouts(ours) != runs.rollouts(theirs) else []
    mine, other = runs.weights(ours, STEPS), runs.weights(theirs, STEPS)
    found += [name for name in other if not torch.equal(mine[name], other[name])]
    steps = [row["step"] for row in runs.metrics(ours)]
    return found + ([f"steps {steps}"] if steps != list(range(1, STEPS + 1)) else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LOSSES, default=list(LOSSES))
    args = parser.parse_args()
    with TemporaryDirectory() as root:
        model = build_tiny_model(Path(root) / "tiny")
        whole = Path(root) / "whole"
        whole.mkdir()
        started = time.monotonic()
        done = runs.run("grpo", write_config(whole, model), timeout=PATIENCE_S)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        undisturbed = time.monotonic() - started
        print(json.dumps({"case": "nothing", "seconds": round(undisturbed, 1)}), flush=True)
        for number, name in enumerate(args.only):
            folder = Path(root) / str(number)
            folder.mkdir()
            seconds = lose(write_config(folder, model), folder / "run", LOSSES[name])
            report = {"case": name, "seconds": round(seconds, 1), "lost": round(seconds - undisturbed, 1)}
            print(json.dumps(report | {"differs": differences(folder / "run", whole / "run")}), flush=True)


if __name__ == "__main__":
    main()
