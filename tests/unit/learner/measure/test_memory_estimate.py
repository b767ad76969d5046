"""Terms of the estimate worked by hand; `benchmarks/memory_estimate.py` holds it against measured peaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.learner.measure.memory_estimate import (
    DEVICE,
    HOST,
    MicroBatch,
    Settings,
    estimate,
    layer_kept,
    layer_working,
)
from pangu_rl.learner.measure.model_shape import ModelShape, shape_of
from pangu_rl.learner.measure.stage_memory import longest_sequence, stage_memory

# A layer: q and o 2 x 8 x 8, k and v 2 x 8 x 4, perceptron 3 x 8 x 16, norms 16: 592. Tables 2 x 8 x 10, last norm 8.
SHAPE = ModelShape(layers=3, width=8, inner=16, heads=4, kv_heads=2, head_size=2, vocabulary=10, tied=False)
COUNT = 3 * 592 + 168
BATCH = MicroBatch(tokens=64, targets=64)


def test_states():
    """Bytes of a parameter on 4 ranks: ZeRO 1: 2 + 4 + 12 / 4; ZeRO 2: 2 + 4 / 4 + 12 / 4; ZeRO 3: a quarter of 2 and
    all of 2, gathered, + 4 / 4 + 12 / 4. float32 without ZeRO: 4 + 4 + 8."""
    assert SHAPE.parameters == COUNT
    for stage, expected in ((1, (2, 4, 3)), (2, (2, 1, 3)), (3, (2.5, 1, 3))):
        found = estimate(SHAPE, Settings(zero_stage=stage, ranks=4), BATCH)
        assert (found.weights, found.gradients, found.optimizer) == tuple(COUNT * each for each in expected)
    found = estimate(SHAPE, Settings(zero_stage=0, size=4), BATCH)
    assert (found.weights, found.gradients, found.optimizer) == (4 * COUNT, 4 * COUNT, 8 * COUNT)


def test_offload_moves_states_to_the_host():
    """4 ranks: 16 bytes and the bf16 copy of a quarter; with the parameters the quarter's own 2 bytes."""
    found = estimate(SHAPE, Settings(zero_stage=3, ranks=4, offload_optimizer=True), BATCH)
    assert (found.gradients, found.optimizer, found.host) == (0, 0, 18 * COUNT // 4)
    both = estimate(SHAPE, Settings(zero_stage=3, ranks=4, offload_optimizer=True, offload_parameters=True), BATCH)
    assert found.weights - both.weights == 2 * COUNT // 4
    assert both.host == 20 * COUNT // 4
    assert both.total == both.weights + both.buckets + both.activations + both.workspace


def test_a_layer_keeps_what_its_backward_pass_reads():
    """4 x 8 of stream and norms, 2 x 8 of q and output, 2 x 4 of k and v, 4 x 16 of the perceptron: 120 numbers of 2
    bytes; 2 inverse roots and 4 log-sum-exps of 4. Two ranks: the output once more; 4 ranks share 2 key heads as 4."""
    assert layer_kept(SHAPE, 1, 2, HOST) == 2 * 120 + 4 * 6
    assert layer_kept(SHAPE, 2, 2, HOST) == 2 * 128 + 4 * 6
    assert layer_kept(SHAPE, 4, 2, HOST) == 2 * 136 + 4 * 6
    assert layer_working(SHAPE, 2, HOST) == 2 * (8 + 32)


def test_activations_of_a_pass_with_and_without_checkpointing():
    """1,000 tokens. All three layers, the last norm's input, hidden states and 10 log-probs: 264 x 3 + 16 + 16 + 20.
    With checkpointing the highest moment is the last layer's: 3 inputs of 16, and a layer again without its input."""
    batch = MicroBatch(tokens=1000, targets=1000)
    assert estimate(SHAPE, Settings(), batch).activations == 1000 * (3 * 264 + 16 + 16 + 20)
    found = estimate(SHAPE, Settings(gradient_checkpointing=True), batch)
    assert (found.activations, found.workspace) == (1000 * (3 * 16 + 264 - 16), 1000 * 80)


def test_chunks_of_the_head():
    """2,000 targets of vocabulary 100,000 in chunks of 1,000: the head's gradient (800,000 numbers) is there in bf16
    twice and in float32 once, on a CPU twice; the gradient of the hidden states beside it."""
    shape = replace(SHAPE, vocabulary=100_000)
    batch = MicroBatch(tokens=2000, targets=2000)
    on_host = estimate(shape, Settings(chunk=1000), batch, replace(HOST, tile=0))
    assert on_host.workspace == max(2000 * 16 + 800_000 * (2 * 2 + 2 * 4), 2000 * 16 + 1000 * 100_000 * 4)
    on_device = estimate(shape, Settings(chunk=1000), batch, replace(DEVICE, tile=0))
    assert on_device.workspace == 2000 * 16 + 800_000 * (2 * 2 + 4)


TOWER = shape_of(
    {
        "model_type": "openpangu_vl",
        "text_config": {
            "hidden_size": 8,
            "num_attention_heads": 4,
            "intermediate_size": 16,
            "num_hidden_layers": 3,
            "vocab_size": 10,
        },
        "vision_config": {"depth": 2, "hidden_size": 8, "num_heads": 2, "intermediate_size": 12, "out_hidden_size": 8},
    }
)


@pytest.mark.parametrize(
    ("trainable", "per_patch"),
    [
        # 588; two blocks of 9 x 8 + 2 x 12 numbers and 4 float32; two mergers of 5 x 8 + 8 / 4, and (2 x 8 + 8) / 4.
        (("encoder", "connector", "language"), 2 * 588 + 2 * (2 * 96 + 16) + 2 * (2 * 42 + 6)),
        (("connector", "language"), 2 * (2 * 42 + 6)),
        (("language",), 0),
    ],
)
def test_pictures(trainable, per_patch):
    settings = Settings(trainable=trainable)
    text = estimate(TOWER, settings, BATCH)
    pictures = estimate(TOWER, settings, replace(BATCH, patches=400))
    assert pictures.activations - text.activations == 400 * per_patch


def test_the_longest_micro_batch_of_a_stage():
    base = {"model": {"path": "m"}, "trainer": {"run_dir": "r", "steps": 1}}
    data = {"train": "t", "max_prompt_tokens": 100}
    grpo = checked(GrpoConfig, base | {"data": data, "rollout": {"max_new_tokens": 900}}, "grpo")
    assert longest_sequence(grpo) == 1000
    dpo = checked(DpoConfig, base | {"data": {"train": "t", "max_tokens": 700}}, "dpo")
    assert longest_sequence(dpo) == 1400
    trainer = {"run_dir": "r", "steps": 1, "packs_per_step": 1}
    stage = base | {"data": {"train": "t", "media_root": "p"}, "trainer": trainer, "learner": {"pack_tokens": 64}}
    pretrain = checked(PretrainConfig, stage, "pretrain")
    assert longest_sequence(pretrain) == 0
    worst = MicroBatch(tokens=64, targets=64, patches=256)
    assert stage_memory(TOWER, True, pretrain) == estimate(TOWER, Settings(), worst, DEVICE)
    assert stage_memory(SHAPE, False, pretrain) == estimate(SHAPE, Settings(), BATCH, HOST)
    cascade = [{"edge": 224, "epochs": 1}]
    pictures = {"train": "t", "media_root": "p"}
    vit = base | {"data": pictures, "classes": 20, "labels": 2, "cascade": cascade, "batch": 8}
    assert stage_memory(TOWER, True, checked(VisionStageConfig, vit, "vit")) is None
