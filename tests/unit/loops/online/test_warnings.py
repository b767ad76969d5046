"""A run that learns nothing says so: before it starts, and step by step."""

from __future__ import annotations

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.loops.online.warnings import start_warnings, step_warnings


def config(lr: float = 1e-6, prompts: int = 8) -> GrpoConfig:
    return GrpoConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "learner": {"optimizer": {"lr": lr}},
            "trainer": {"run_dir": "r", "steps": 1, "prompts_per_step": prompts},
        }
    )


def test_settings_that_are_not_meant() -> None:
    assert list(start_warnings(config(), 8)) == []
    [few] = start_warnings(config(prompts=64), 16)
    assert "prompts_per_step is 64 and data.train has 16 usable rows: a step draws some prompts 4 times" in few
    [rate] = start_warnings(config(lr=1000.0), 8)
    assert rate.startswith("learner.optimizer.lr is 1000")


def test_a_step_without_a_difference() -> None:
    metrics = {"groups/zero_variance": 1.0, "outcome/no_box": 0.9, "outcome/incorrect": 0.1}
    [warning] = step_warnings(3, metrics)
    assert "step 3: nothing to learn" in warning
    assert "(90% no_box)" in warning
    assert not list(step_warnings(3, metrics | {"groups/zero_variance": 0.9}))


def test_tokens_beyond_the_tokenizer_are_told() -> None:
    [warning] = step_warnings(2, {"groups/zero_variance": 0.0, "response/unknown_tokens": 3.0})
    assert warning.startswith("step 2: 3 drawn tokens are none of the tokenizer's")
    assert not list(step_warnings(2, {"groups/zero_variance": 0.0, "response/unknown_tokens": 0.0}))
