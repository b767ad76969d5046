"""Processes that are hit while they do what they are there for: **who, when, and what the run makes of it**.

The title of a process says what it does. What a title does not say is a door's matter (`doors.py`).
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e import runs
from tests.faults.alike import PATIENCE_S, Mode, stored


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


def losses_of(mode: Mode) -> list[str]:
    """What is shown of a mode."""
    if mode.transport == "broadcast":
        return list(OF_WEIGHTS)
    return [name for name in LOSSES if name != "learner rank in mid-broadcast"]


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
