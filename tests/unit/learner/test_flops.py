"""FLOPs of a pack by hand, and those of the tower as the planner has them."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig

from pangu_rl.learner.flops import ModelFlops
from pretrain.models.configuration import PanguVisionConfig
from pretrain.packing.cost import OPENPANGU_VIT
from tests.unit.learner.builders import plain_pack, tree_pack
from tests.unit.learner.vl_builders import group, packed, pangu_vl, picture

LLAMA = LlamaConfig(
    hidden_size=8, num_attention_heads=2, num_key_value_heads=1, head_dim=4, intermediate_size=10, num_hidden_layers=3,
    vocab_size=50,
)  # fmt: skip


def test_a_pack_of_text_by_hand():
    """A layer: q and o 8 x 8, k and v 8 x 4, three of 8 x 10: 64 + 64 + 32 + 32 + 240 = 432 weights, 864 FLOPs.

    3 layers: 2592 a token, and 3 * 4 * 2 * 4 = 96 a pair. Sequences of 3 and 2 tokens have 6 + 3 pairs. Of 3 targets,
    2 * 8 * 50 each. Forward 5 * 2592 + 9 * 96 + 3 * 800 = 16224, and three times that in all.
    """
    pack = plain_pack([[1, 2, 3], [4, 5]], trained_from=[1, 1])
    assert ModelFlops.of(LLAMA).of_training(pack, ("language",)) == 3 * 16224


def test_a_completion_attends_to_its_prompt():
    """Prompt 4, completions 2 and 1: pairs 10 + (3 + 2 * 4) + (1 + 4) = 26."""
    flops = ModelFlops(per_token=0.0, per_pair=1.0, per_target=0.0)
    assert flops.of_training(tree_pack([(4, [2, 1])]), ("language",)) == 3 * 26


def test_the_released_tower_costs_what_the_planner_says():
    class Config:
        vision_config = PanguVisionConfig()

        @staticmethod
        def get_text_config():
            return LlamaConfig(hidden_size=4096)

    flops = ModelFlops.of(Config)
    assert flops.per_patch + flops.connector_per_patch == OPENPANGU_VIT.per_patch
    assert flops.per_patch_pair == OPENPANGU_VIT.per_pair


def test_frozen_parts_are_passed_through_and_a_shared_picture_is_encoded_once():
    shown = picture("p", 2, 3)
    [pack] = packed([group("one", [shown], [5]), group("two", [shown], [4])])
    flops = ModelFlops.of(pangu_vl().config)
    tower = 24 * flops.per_patch + 24**2 * flops.per_patch_pair
    connector = 24 * flops.connector_per_patch
    language = flops.of_training(pack, ("language",)) - tower - connector
    found = {parts: flops.of_training(pack, parts) for parts in (("connector",), ("encoder", "connector"))}
    assert found["connector",] == pytest.approx(language * 2 / 3 + tower + 3 * connector)
    assert found["encoder", "connector"] == pytest.approx(language * 2 / 3 + 3 * tower + 3 * connector)
