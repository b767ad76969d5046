"""Kills and stops of a run of two engines, two reward workers and two learner ranks: **seconds lost by each**.

Every case is a GRPO run of the real command on the two-layer model. Once the rollouts of a step are stored, a process
is hit while it does what it is there for; the run, or the same command again where the driver was hit, must end like a
run that nothing was done to. In synchronous mode that means the same rollouts and weights, to the bit. With stale
rollouts, which depend on timing, it means the same prompts, each in one group of as many answers, and no token too old.

`python -m benchmarks.online.kills` prints the table; `--staleness 2` and `--transport broadcast` those of other modes.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from tests.builders import build_tiny_model
from tests.e2e import runs

STEPS = 5
PATIENCE_S = 900.0
"""For a run that takes half a minute on two quiet cores."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is done to whom."""

    victim: str
    """How the title of its process begins; `driver` is the command itself, with all that it has started."""
    number: signal.Signals = signal.SIGKILL
    after: int = 2
    """The step whose rollouts are stored by then."""


LOSSES = {
    "engine in mid-answer": Loss("ray::RolloutActor.generate"),
    "reward worker": Loss("ray::RewardService"),
    "learner rank in mid-update": Loss("ray::LearnerActor.update"),
    "learner rank stopped": Loss("ray::LearnerActor.update", signal.SIGSTOP),
    "learner rank in mid-broadcast": Loss("ray::LearnerActor.send", after=3),
    "driver": Loss("driver"),
}
OF_WEIGHTS = ("engine in mid-answer", "learner rank in mid-update", "learner rank in mid-broadcast")
"""Where it matters how weights travel."""
SILENCE_S = 10.0
"""Of a stopped rank; the default is 300."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the run samples and how its weights travel."""

    staleness: int = 0
    transport: str = "shm"

    @property
    def losses(self) -> list[str]:
        """What is shown of this mode."""
        if self.transport == "broadcast":
            return list(OF_WEIGHTS)
        return [name for name in LOSSES if name != "learner rank in mid-broadcast"]


SYNCHRONOUS = Mode()


def write_config(folder: Path, model: Path, mode: Mode = SYNCHRONOUS, **sections: dict[str, Any]) -> Path:
    """Five steps of 4 prompts, two mini-batches each, a checkpoint after every second step."""
    settings: dict[str, dict[str, Any]] = {
        "rollout": {
            "actors": 2,
            "kv_cache_gib": 0.05,
            "max_new_tokens": 32,
            "weight_transport": mode.transport,
        },
        "rewards": {"workers": 2},
        "algorithm": {"mini_batches": 2, "correction": {"high": 2.0} if mode.staleness else None},
        "learner": {"ranks": 2, "optimizer": {"lr": 0.01}, "pack_tokens": 256},
        "trainer": {
            "run_dir": str(folder / "run"),
            "steps": STEPS,
            "prompts_per_step": 4,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
            "silence_s": SILENCE_S,
            "max_staleness": mode.staleness,
        },
    }
    merged = {name: settings.get(name, {}) | sections.get(name, {}) for name in settings | sections}
    return runs.write_config(folder, model, **merged)


def lose(config: Path, run_dir: Path, loss: Loss) -> float:
    """Seconds of the run with the loss in it, to its end; that of the command that goes on included."""
    started = time.monotonic()
    if loss.victim == "driver":
        runs.run_until_killed("grpo", config, when=lambda: stored(run_dir) >= loss.after)
        done = runs.run("grpo", config, timeout=PATIENCE_S)
        code, errors = done.returncode, done.stderr
    else:
        driver = subprocess.Popen(runs.command("grpo", config), cwd=runs.REPO, stderr=subprocess.PIPE, text=True)
        hit(driver, loss, when=lambda: stored(run_dir) >= loss.after)
        _, errors = driver.communicate(timeout=PATIENCE_S)
        code = driver.returncode
    if code:
        raise SystemExit(f"{loss}: the run ended with {code}: {errors[-2000:]}")
    return time.monotonic() - started


def hit(driver: subprocess.Popen[str], loss: Loss, when: Callable[[], bool]) -> int:
    """Signal the first process whose title says that it is at work, once `when()` holds; returns its pid."""
    deadline = time.monotonic() + PATIENCE_S
    while driver.poll() is None and time.monotonic() < deadline:
        if when():
            for process in psutil.Process(driver.pid).children(recursive=True):
                try:
                    if " ".join(process.cmdline()).startswith(loss.victim):
                        process.send_signal(loss.number)
                        return process.pid
                except psutil.NoSuchProcess:
                    continue
        time.sleep(0.001)
    found = "the run is at work" if driver.poll() is None else f"the run ended with {driver.returncode}"
    raise SystemExit(f"{loss.victim} was never seen at work, {found}")


def stored(run_dir: Path) -> int:
    """Steps whose rollouts are stored."""
    return len(list((run_dir / "rollouts").glob("step_*.parquet")))


def differences(ours: Path, theirs: Path, mode: Mode = SYNCHRONOUS) -> list[str]:
    """What of two finished runs is not the same that has to be."""
    steps = [row["step"] for row in runs.metrics(ours)]
    found = [] if steps == list(range(1, STEPS + 1)) else [f"steps {steps}"]
    if mode.staleness:
        return found + unequal_prompts(ours, theirs) + too_old(ours, mode.staleness)
    if runs.rollouts(ours) != runs.rollouts(theirs):
        found.append("rollouts")
    mine, other = runs.weights(ours, STEPS), runs.weights(theirs, STEPS)
    return found + [name for name in other if not torch.equal(mine[name], other[name])]


def unequal_prompts(ours: Path, theirs: Path) -> list[str]:
    """Answers that were trained in one run and not in the other, or more than once: `epoch:prompt/place` of each."""
    mine, other = (Counter(row["completion_uid"] for row in runs.rollouts(run)) for run in (ours, theirs))
    return sorted(uid for uid in mine | other if (mine[uid], other[uid]) != (1, 1))


def too_old(run_dir: Path, staleness: int) -> list[str]:
    ages = [row["rollout/staleness_max"] for row in runs.metrics(run_dir)]
    return [f"staleness {ages}"] if max(ages) > staleness else []


def drawn_again(run_dir: Path) -> int:
    """Answers of lost engines that were begun anew, by what the run said."""
    said = (run_dir / "run.log").read_text()
    return sum(map(int, re.findall(r"(\d+) requests are drawn again", said)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LOSSES)
    parser.add_argument("--staleness", type=int, default=SYNCHRONOUS.staleness)
    parser.add_argument("--transport", choices=["shm", "broadcast"], default=SYNCHRONOUS.transport)
    args = parser.parse_args()
    mode = Mode(args.staleness, args.transport)
    with TemporaryDirectory() as root:
        model = build_tiny_model(Path(root) / "tiny")
        whole = Path(root) / "whole"
        whole.mkdir()
        started = time.monotonic()
        done = runs.run("grpo", write_config(whole, model, mode), timeout=PATIENCE_S)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        undisturbed = time.monotonic() - started
        print(json.dumps({"case": "nothing", "seconds": round(undisturbed, 1)}), flush=True)
        for number, name in enumerate(args.only or mode.losses):
            folder = Path(root) / str(number)
            folder.mkdir()
            seconds = lose(write_config(folder, model, mode), folder / "run", LOSSES[name])
            report = {"case": name, "seconds": round(seconds, 1), "lost": round(seconds - undisturbed, 1)}
            report |= {"drawn_again": drawn_again(folder / "run")}
            print(json.dumps(report | {"differs": differences(folder / "run", whole / "run", mode)}), flush=True)


if __name__ == "__main__":
    main()
