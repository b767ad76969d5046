"""The rules of the sampling stages' configurations, each with its way out."""

from __future__ import annotations

from typing import Any

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.sampling import DifficultyConfig, IterativeConfig, PairsConfig
from pangu_rl.errors import ConfigError

BASE: dict[str, Any] = {
    "model": {"path": "m"},
    "data": {"queries": "q"},
    "rollout": {"max_model_tokens": 4096},
    "trainer": {"run_dir": "r"},
}


def test_the_defaults_are_the_papers() -> None:
    pairs, iterative = checked(PairsConfig, BASE, "x"), checked(IterativeConfig, BASE, "x")
    assert (pairs.rollout.completions, pairs.pair.chosen_above, pairs.pair.rejected_below) == (4, 4.0, 2.0)
    assert checked(DifficultyConfig, BASE, "x").max_pass_rate == 0.75
    assert checked(DifficultyConfig, BASE, "x").rollout.completions == 8
    hard, optimizer = iterative.hard, iterative.learner.optimizer
    assert (hard.correct, hard.wrong_below, hard.wrong_at_least) == (5.0, 2.0, 2)
    assert (optimizer.lr, optimizer.lr * optimizer.min_lr_ratio) == (1e-6, pytest.approx(1e-7))
    changed = checked(IterativeConfig, BASE | {"learner": {"optimizer": {"lr": 1e-5}}}, "x").learner.optimizer
    assert (changed.schedule, changed.min_lr_ratio) == ("cosine", 0.1)


@pytest.mark.parametrize(
    ("schema", "changes", "message"),
    [
        (PairsConfig, {"pair": {"rejected_below": 4.5}}, "rejected_below 4.5 exceeds chosen_above 4.0"),
        (PairsConfig, {"rollout": {"completions": 1, "max_model_tokens": 4096}}, "a pair needs 2 or more"),
        (PairsConfig, {"rollout": {"max_model_tokens": 100}}, "= 2048 exceed rollout.max_model_tokens 100"),
        (PairsConfig, {"rewards": {"functions": [{"name": "graded", "weight": 2}]}}, r"graded \(2.0\): set agg"),
        (
            IterativeConfig,
            {"rollout": {"completions": 2, "max_model_tokens": 4096}},
            "no query could have so many wrong and one right; set completions to 3",
        ),
        (DifficultyConfig, {"max_pass_rate": 75}, "max_pass_rate is 75"),
        (DifficultyConfig, {"trainer": {"run_dir": "r", "checkpoint_every": 2}}, "unknown key trainer.check"),
    ],
)
def test_rules(schema: type, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(schema, BASE | changes, "x.yaml")
