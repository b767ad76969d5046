"""Every loss and correction of docs/recipe.md through the real command: five steps, finite, its metrics sane."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import runs
from tests.e2e.recipe_runs import SCORE

SETTINGS: dict[str, dict[str, Any]] = {
    "gspo": {"loss": "gspo", "correction": {"level": "geometric", "outside": "mask", "low": 0.9, "high": 1.1}},
    "cispo": {"loss": "cispo", "correction": {"high": 2.0}},
    "answers": {"correction": {"level": "sequence", "outside": "mask", "low": 0.5, "high": 2.0}},
    "tokens": {"correction": {"outside": "mask", "low": 0.5, "high": 2.0}},
    "reference": {"kl_weight": 0.05, "correction": {"level": "sequence", "high": 2.0}},
    "accuracy": {"dynamic_sampling": {"judge": "accuracy"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_five_steps(tiny_model: Path, tmp_path: Path, name: str) -> None:
    setting = SETTINGS[name]
    penalty = {"name": "soft_overlong", "weight": 0.5, "args": {"limit": 16, "buffer": 8}}
    config = runs.write_config(
        tmp_path,
        tiny_model,
        rewards={"functions": [{"name": SCORE}, penalty]},
        algorithm={"mini_batches": 2, **setting},
        trainer={"steps": 5},
    )
    done = runs.run("grpo", config)
    assert done.returncode == 0, done.stderr
    steps = runs.metrics(tmp_path / "run")
    assert len(steps) == 5
    assert all(-1 <= step["reward/soft_overlong"] <= 0 for step in steps)
    trained = [step for step in steps if step["train/updates"]]
    assert trained
    assert all(math.isfinite(step["train/loss"]) and step["train/grad_norm"] > 0 for step in trained)
    assert all(step["train/skipped"] == 0 for step in trained)
    if "correction" in setting:
        # Engine and learner hold the same weights: w is 1 up to their arithmetic.
        assert all(step["train/correction_weight"] == pytest.approx(1, abs=0.05) for step in trained)
    if "kl_weight" in setting:
        assert trained[0]["train/kl_reference"] < trained[-1]["train/kl_reference"]
