"""Runs that faults are done to, and **what a disturbed one and an undisturbed one must have in common**.

In synchronous mode that is everything, to the bit. With stale rollouts, which depend on timing, it is the same prompts,
each in one group of as many answers, and no token too old.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.e2e import runs

STEPS = 5
PATIENCE_S = 900.0
"""For a run that takes half a minute on two quiet cores."""
SFT_ROWS = 24
STATE_OF = "checkpoints/step_{:06d}/state.json"
SILENCE_S = 20.0
"""Of a stopped process; the default is 300. A machine with other work starves a rank for half of it."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the run samples and how its weights travel."""

    staleness: int = 0
    transport: str = "shm"


SYNCHRONOUS = Mode()


def write_config(folder: Path, model: Path, mode: Mode = SYNCHRONOUS, **sections: dict[str, Any]) -> Path:
    """GRPO by two engines, two reward workers and two ranks: five steps of 4 prompts, two mini-batches each, a
    checkpoint after every second step."""
    settings: dict[str, dict[str, Any]] = {
        "rollout": {
            "actors": 2,
            "kv_cache_gib": 0.05,
            "max_new_tokens": 32,
            "silence_s": SILENCE_S,
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


def write_sft(folder: Path, model: Path, steps: int = 6) -> Path:
    """Fine-tuning by two ranks: four of 24 rows a step, each a source of its own, a checkpoint after every second."""
    rows = [
        {
            "id": f"row{i}",
            "source": f"row{i}",
            "messages": [{"role": "user", "content": f"{i} + 3?"}, {"role": "assistant", "content": str(i + 3)}],
        }
        for i in range(SFT_ROWS)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainer = {"run_dir": str(folder / "run"), "steps": steps, "sequences_per_step": 4, "checkpoint_every": 2}
    tree = {
        "model": {"path": str(model)},
        "data": {"train": str(folder / "rows.jsonl"), "max_tokens": 128},
        "learner": {"ranks": 2, "optimizer": {"lr": 1e-3}, "pack_tokens": 128},
        "trainer": trainer | {"keep_checkpoints": 2, "silence_s": SILENCE_S},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


WRITE: dict[str, Callable[[Path, Path], Path]] = {"grpo": write_config, "sft": write_sft}
"""Stage -> what writes its configuration, into a folder, for a model."""


def unlike(stage: str, ours: Path, theirs: Path) -> list[str]:
    """What of two finished runs of a stage is not the same."""
    if stage == "grpo":
        return differences(ours, theirs)
    mine, other = (list(map(runs.timeless, runs.metrics(run))) for run in (ours, theirs))
    tensors = runs.weights(ours, len(other)), runs.weights(theirs, len(other))
    found = [] if mine == other else ["metrics"]
    return found + [name for name, tensor in tensors[1].items() if not torch.equal(tensors[0][name], tensor)]


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
