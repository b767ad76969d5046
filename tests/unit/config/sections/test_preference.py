"""The preference stage's defaults, and how many SFT rows a share is."""

from __future__ import annotations

from typing import Any

import pytest

from pangu_rl.config.stages import DpoConfig


def config(**sections: dict[str, Any]) -> DpoConfig:
    tree = {"model": {"path": "m"}, "data": {"train": "p"}, "trainer": {"run_dir": "r", "steps": 1}}
    return DpoConfig.model_validate({name: tree.get(name, {}) | sections.get(name, {}) for name in {*tree, *sections}})


def test_the_function_s_defaults_are_the_schemas() -> None:
    assert (config().algorithm.beta, config().algorithm.weights) == (0.1, (0.8, 0.2, 1.0))


def test_the_encoder_learns_at_a_tenth_also_where_the_rate_alone_is_set() -> None:
    assert config().learner.optimizer.encoder_lr_ratio == 0.1
    assert config(learner={"optimizer": {"lr": 1e-5}}).learner.optimizer.encoder_lr_ratio == 0.1


@pytest.mark.parametrize(("pairs", "share", "rows"), [(4, 1 / 3, 2), (256, 0.2, 64), (16, 0.5, 16), (3, 0.2, 1)])
def test_a_share_of_the_samples_is_so_many_rows(pairs: int, share: float, rows: int) -> None:
    made = config(data={"sft": "s", "sft_share": share}, trainer={"pairs_per_step": pairs})
    assert made.sft_per_step == rows


def test_no_share_is_no_row() -> None:
    assert config().sft_per_step == 0
