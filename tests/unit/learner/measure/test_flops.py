"""FLOPs of a pack by hand, and those of the tower as the planner has them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import CONFIG_MAPPING, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen3MoeConfig

from pangu_rl.learner.measure.flops import ModelFlops, Work
from pretrain.models.configuration import PanguVLConfig
from pretrain.packing.cost import OPENPANGU_VIT
from tests.unit.learner.builders import join, plain_pack, tree_pack
from tests.unit.learner.families import COMMON, OPTIONS
from tests.unit.learner.vl_builders import group, packed, pangu_vl, picture

SHAPE = {
    "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 10,
    "num_hidden_layers": 3, "vocab_size": 50,
}  # fmt: skip
LLAMA = LlamaConfig(**SHAPE)


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


def test_layers_with_a_window_count_the_pairs_within_it():
    """Window 3. Prompt 4: 1 + 2 + 3 + 3 = 9 pairs; completion of 2 behind it: 3 + 3; a sequence of 2 alone: 1 + 2.

    Of 4 layers one is full: 10 + (3 + 2 * 4) + 3 = 24 pairs.
    """
    pack = join([replace(tree_pack([(4, [2])]), columns={}), plain_pack([[1, 2]], [1])])
    flops = ModelFlops(per_token=0.0, per_pair=1.0, per_target=0.0, per_near_pair=100.0, window=3)
    assert flops.of_training(pack, ("language",)) == 3 * (24 + 100 * (9 + 6 + 3))


def test_layers_may_differ():
    """Gemma 3n has a list of inner widths; 4 heads of 16 over 2, 64 wide: 2 * 64 * 16 * 12 and 6 * 64 inner a layer."""
    options = COMMON | OPTIONS["gemma3n_text"] | {"intermediate_size": [96, 32]}
    gemma_3n = ModelFlops.of(CONFIG_MAPPING["gemma3n_text"](**options))
    assert gemma_3n.per_token == 2 * 24576 + 6 * 64 * (96 + 32)


def test_layers_may_differ_in_the_size_of_their_heads():
    """Gemma 4: heads of 16 where there is a window, of 32 elsewhere; a pair costs 4 * 4 heads times that."""
    if "gemma4_text" not in CONFIG_MAPPING:
        pytest.skip("this transformers has no gemma4_text")
    kinds = ["sliding_attention", "full_attention"]
    options = COMMON | {"layer_types": kinds, "global_head_dim": 32, "vocab_size_per_layer_input": 97}
    flops = ModelFlops.of(CONFIG_MAPPING["gemma4_text"](**options))
    assert (flops.per_near_pair, flops.per_pair) == (16 * 16, 16 * 32)


def test_windows_and_experts_are_those_of_the_configuration():
    """A pair costs 4 * 2 heads * 4 a layer, 32; of experts of width 6 a token enters 2."""
    mistral = ModelFlops.of(MistralConfig(**SHAPE, sliding_window=7))
    assert (mistral.per_pair, mistral.per_near_pair, mistral.window) == (0, 3 * 32, 7)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    mixed = ModelFlops.of(Gemma3TextConfig(**SHAPE, sliding_window=5, layer_types=kinds))
    assert (mixed.per_pair, mixed.per_near_pair, mixed.window) == (32, 2 * 32, 5)
    dense, sparse = (
        ModelFlops.of(
            Qwen3MoeConfig(**SHAPE | {"intermediate_size": width}, moe_intermediate_size=6, num_experts_per_tok=n)
        )
        for width, n in ((12, 0), (99, 2))
    )
    assert dense.per_token == sparse.per_token


def test_the_released_tower_costs_what_the_planner_says():
    flops = ModelFlops.of(PanguVLConfig(text_config=LlamaConfig(hidden_size=4096)))
    assert flops.per_patch + flops.connector_per_patch == OPENPANGU_VIT.per_patch
    assert flops.per_patch_pair == OPENPANGU_VIT.per_pair


TOWER = ModelFlops(
    per_token=10.0, per_pair=1.0, per_target=100.0, per_near_pair=2.0, per_patch=1000.0, windows_per_patch=400.0,
    per_patch_pair=3.0, connector_per_patch=50.0,
)  # fmt: skip
WORK = Work(tokens=7, targets=5, pairs=28, near_pairs=20, patches=4, patch_pairs=16)


@pytest.mark.parametrize(
    ("trained", "adapted", "language", "tower", "connector"),
    [
        (("encoder", "connector", "language"), False, 3 * 638, 3 * 4048, 3 * 200),
        (("encoder", "connector", "language"), True, 2 * 570 + 3 * 68, 2 * 2400 + 3 * 1648, 2 * 200),
        (("language",), True, 2 * 570 + 3 * 68, 4048, 200),
        (("connector",), False, 2 * 570 + 3 * 68, 4048, 3 * 200),
        (("encoder",), False, 2 * 570 + 3 * 68, 3 * 4048, 2 * 200),
    ],
)
def test_attention_has_no_weights_whose_gradients_could_be_missing(trained, adapted, language, tower, connector):
    """Language: 7 * 10 + 5 * 100 = 570 with weights and 28 + 2 * 20 = 68 of pairs, whose backward pass is always twice
    the forward one. Tower: 4 * 600 = 2400 and 4 * 400 + 16 * 3 = 1648. Connector: 200."""
    assert TOWER.of_work(WORK, trained, adapted) == language + tower + connector
    assert TOWER.of_language(WORK) == 638 and TOWER.of_tower([(1, 2, 2)]) == 4048


def test_frozen_parts_are_passed_through_and_a_shared_picture_is_encoded_once():
    shown = picture("p", 2, 3)
    [pack] = packed([group("one", [shown], [5]), group("two", [shown], [4])])
    flops = ModelFlops.of(pangu_vl().config)
    tower = 24 * flops.per_patch + 24**2 * flops.per_patch_pair
    connector = 24 * flops.connector_per_patch
    # A prompt of 4 words, a picture of 6 between its marks and 3 words is 15; 120 pairs, with an answer of 5 or 4.
    pairs = 2 * 120 + (5 * 15 + 15) + (4 * 15 + 10)
    language = 39 * flops.per_token + 9 * flops.per_target
    through = 2 * language + 3 * pairs * flops.per_pair
    found = {parts: flops.of_training(pack, parts) for parts in (("connector",), ("encoder", "connector"))}
    assert found["connector",] == pytest.approx(through + tower + 3 * connector)
    assert found["encoder", "connector"] == pytest.approx(through + 3 * tower + 3 * connector)
    assert flops.of_training(pack, ("language",)) == pytest.approx(through + language + tower + connector)
