"""A run of two engines, two reward workers and two learner ranks, and **what two such runs must have in common**.

In synchronous mode that is everything, to the bit. With stale rollouts, which depend on timing, it is the same prompts,
each in one group of as many answers, and no token too old.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.e2e import runs

STEPS = 5
PATIENCE_S = 900.0
"""For a run that takes half a minute on two quiet cores."""
SILENCE_S = 10.0
"""Of a stopped process; the default is 300."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the run samples and how its weights travel."""

    staleness: int = 0
    transport: str = "shm"


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
