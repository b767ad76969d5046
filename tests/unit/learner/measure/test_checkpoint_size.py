"""The least that a checkpoint takes, against what the parts of a real one have."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.stages import SftConfig
from pangu_rl.learner.measure.checkpoint_size import least_checkpoint_bytes
from pangu_rl.learner.measure.model_shape import stored_parameters


def stage(model: Path, dtype: str = "bfloat16", **learner: object) -> SftConfig:
    tree = {
        "model": {"path": str(model), "dtype": dtype},
        "data": {"train": "rows.jsonl"},
        "learner": learner,
        "trainer": {"run_dir": "run", "steps": 1},
    }
    return checked(SftConfig, tree, "test")


@pytest.mark.parametrize(
    ("dtype", "zero", "each"), [("bfloat16", 1, 2 + 12), ("float32", 2, 4 + 12), ("float32", 0, 4 + 8)]
)
def test_the_model_and_what_its_optimizer_keeps(tiny_model: Path, dtype: str, zero: int, each: int) -> None:
    """Under ZeRO float32 weights and two moments, 12 bytes of each parameter, beside the model in its own dtype."""
    parameters = stored_parameters(tiny_model)
    assert least_checkpoint_bytes(stage(tiny_model, dtype, zero_stage=zero)) == parameters * each


def test_what_is_frozen_has_no_moments(tiny_vl_model: Path) -> None:
    whole = least_checkpoint_bytes(stage(tiny_vl_model))
    language = least_checkpoint_bytes(stage(tiny_vl_model, trainable=["language"]))
    assert 2 * stored_parameters(tiny_vl_model) < language < whole


def test_adapters_and_models_that_are_elsewhere_are_not_counted(tiny_model: Path, tmp_path: Path) -> None:
    assert least_checkpoint_bytes(stage(tiny_model, lora={"rank": 4})) == 0
    assert least_checkpoint_bytes(stage(tmp_path / "on_the_cluster")) == 0
    assert least_checkpoint_bytes(object()) == 0
