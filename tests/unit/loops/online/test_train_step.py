"""Which rows of scored groups reach the packs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.micro_batches import BY_TOKENS
from pangu_rl.loops.online.train_step import rank_batches
from pangu_rl.records import FinishReason
from tests.unit.data.groups import make_group


@pytest.mark.parametrize(
    ("kl_weight", "overlong", "expected"),
    [(0.0, "train", {0, 1}), (0.1, "train", {0, 1, 2, 3}), (0.1, "mask", {0, 1, 2})],
)
def test_the_kl_to_a_reference_trains_rows_without_advantage(
    kl_weight: float, overlong: str, expected: set[int]
) -> None:
    """Row 2 has no advantage, row 3 is cut and has none; the second group is set aside whatever the loss."""
    config = GrpoConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "learner": {"pack_tokens": 4096},
            "rollout": {"max_new_tokens": 2048, "max_model_tokens": 4096},
            "algorithm": {"kl_weight": kl_weight, "overlong": overlong, "mini_batches": 1},
            "trainer": {"run_dir": "r", "steps": 1, "prompts_per_step": 1},
        }
    )
    group = make_group("g", 2, [3, 1, 2, 4], [1.0, -1.0, 0.0, 0.0])
    group.completions[3] = replace(group.completions[3], finish_reason=FinishReason.LENGTH)
    aside = make_group("aside", 2, [3, 3], [0.0, 0.0], trained=False)
    [[batch]] = rank_batches([group, aside], config, frozenset(), BY_TOKENS)
    assert {int(sequence) for pack in batch.packs for sequence in pack.sequence_ids} == expected
    assert batch.loss_tokens == (10 if overlong == "train" else 6)
