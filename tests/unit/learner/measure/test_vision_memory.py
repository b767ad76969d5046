"""Terms of the vision-only stage worked by hand, on a tower whose sizes fit in the head."""

from __future__ import annotations

from typing import Any

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.learner.measure.model_shape import ModelShape, TowerShape
from pangu_rl.learner.measure.stage_memory import stage_memory
from pangu_rl.learner.measure.vision_memory import vision_memory

TOWER = TowerShape(
    depth=5,
    width=4,
    heads=2,
    inner=8,
    gated=False,
    cell=4,
    mergers=1,
    merged=4,
    projected=False,
    final_norm=False,
)
SHAPE = ModelShape(layers=1, width=8, inner=16, heads=2, kv_heads=2, head_size=4, vocabulary=16, tied=True, tower=TOWER)
PATCHES = 8 * 16
"""A rank's 8 pictures of 56 pixels, 4 x 4 patches each."""


def config(**change: Any) -> VisionStageConfig:
    tree = {
        "model": {"path": "m"},
        "data": {"train": "t", "media_root": "p"},
        "classes": 40,
        "labels": 2,
        "cascade": [{"edge": 28, "epochs": 1}, {"edge": 56, "epochs": 1}],
        "loss": {"rate": 0.5},
        "batch": 16,
        "learner": {"ranks": 2, "embedding": 8},
        "trainer": {"run_dir": "r"},
    }
    return checked(VisionStageConfig, tree | change, "vit")


def test_the_tower_is_whole_and_the_centres_are_shared() -> None:
    """float32 weights and a bf16 copy, gradients, two moments; 20 of 40 centres of 8 numbers with two moments."""
    found = vision_memory(SHAPE, config())
    encoder = TOWER.encoder
    assert (found.weights, found.gradients) == (6 * encoder, 4 * encoder)
    assert found.optimizer == 8 * encoder + 3 * 20 * 8 * 4
    assert found.host == 4 * SHAPE.parameters
    assert vision_memory(SHAPE, config(model={"path": "m", "dtype": "float32"})).weights == 4 * encoder


def test_what_is_kept_grows_with_the_largest_pictures() -> None:
    """A block: (9 x 4 + 2 x 8) x 2 + 2 x 4 x 4 + 4 x 4 = 152 bytes a patch; five of them, or five inputs of 8 bytes and
    one block. The features and their gradient in float32: 32."""
    plain = vision_memory(SHAPE, config())
    kept = vision_memory(SHAPE, config(learner={"ranks": 2, "embedding": 8, "gradient_checkpointing": True}))
    assert plain.activations == (5 * 152 + 32) * PATCHES
    assert kept.activations == (5 * 8 + 152 + 32) * PATCHES


def test_the_head_of_pictures_and_of_regions() -> None:
    """Of 40 classes a half is drawn, 10 of them here: 16 x 10 cosines, four of each. Gradients of a block:
    4 x 4 x 2 + 3 x 4 x 4 = 80 a patch. Regions: 16 x 3 samples; 6 x 4 numbers a patch, and for each of its picture's 3
    regions a mask and, of two heads, three scores. Micro-batches of 2 have a quarter of the 8 pictures' patches."""
    assert vision_memory(SHAPE, config()).workspace == 4 * 16 * 10 * 4 + 80 * PATCHES
    found = vision_memory(SHAPE, config(regions={"per_picture": 3}))
    wide = 6 * 4 * PATCHES + 3 * PATCHES * (1 + 3 * 2)
    assert found.workspace == (4 * 16 * 3 * 10 + wide) * 4 + 80 * PATCHES
    assert found.optimizer - vision_memory(SHAPE, config()).optimizer == 3 * 8 * 8 * 4, "half of 16 tokens' centres"
    whole = vision_memory(SHAPE, config())
    parts = vision_memory(SHAPE, config(learner={"ranks": 2, "embedding": 8, "micro_batch": 2}))
    assert parts.activations * 4 == whole.activations
    assert parts.workspace == 4 * 16 * 10 * 4 + 80 * PATCHES // 4


def test_it_is_what_a_plan_asks_for() -> None:
    assert stage_memory(SHAPE, True, config()) == vision_memory(SHAPE, config())
    text = ModelShape(layers=1, width=8, inner=16, heads=2, kv_heads=2, head_size=4, vocabulary=16, tied=True)
    assert stage_memory(text, True, config()) is None


def test_the_cache_of_a_token() -> None:
    """Keys and values of 34 layers, 8 heads of 128 numbers: 139,264 bytes; over 4 devices a quarter, over 16 an 8th."""
    shape = ModelShape(layers=34, width=4096, inner=1, heads=32, kv_heads=8, head_size=128, vocabulary=1, tied=False)
    assert shape.cached_bytes() == 139_264
    assert [shape.cached_bytes(devices) / 139_264 for devices in (4, 16)] == pytest.approx([1 / 4, 1 / 8])
