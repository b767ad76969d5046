"""What the learner of a GRPO run is told by the other sections."""

from __future__ import annotations

from pathlib import Path

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.loops.online.open_parts import learner_spec


def test_the_learner_knows_the_steps_the_temperature_and_the_longest_answer() -> None:
    """3 steps of 4 mini-batches are 12 of the optimiser; Dr. GRPO divides by the most tokens an answer can have."""
    config = GrpoConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "rollout": {"max_new_tokens": 77, "max_model_tokens": 2000, "temperature": 0.7},
            "algorithm": {"aggregation": "sequence_sum", "mini_batches": 4},
            "trainer": {"run_dir": "r", "steps": 3, "seed": 5, "prompts_per_step": 8},
        }
    )
    spec = learner_spec(config, Path("start"), get_accelerator("cpu"))
    assert (spec.objective, spec.algorithm, spec.model.path) == ("grpo", config.algorithm, "start")
    assert (spec.constant_length, spec.total_steps, spec.temperature, spec.seed) == (77, 12, 0.7, 5)
