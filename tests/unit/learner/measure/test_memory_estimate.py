"""Terms of the estimate worked by hand; `benchmarks/learner/memory_estimate.py` holds it against measured peaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sections.learner import LearnerConfig, OffloadConfig
from pangu_rl.config.sections.lora import LoraConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig
from pangu_rl.learner.measure.adapter_shape import adapter_parameters
from pangu_rl.learner.measure.memory_estimate import REDUCE_BUCKET, estimate, layer_kept, layer_working, tower_kept
from pangu_rl.learner.measure.memory_inputs import DEVICE, HOST, MicroBatch, Settings
from pangu_rl.learner.measure.model_shape import ModelShape, shape_of
from pangu_rl.learner.measure.stage_memory import longest_sequence, stage_memory
from pangu_rl.learner.parallel.zero import REDUCE_BUCKET as GIVEN_BUCKET
from pangu_rl.learner.weights.offload import offloaded_bytes

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


def test_settings_are_those_of_the_learner():
    """Every one set, and what null means."""
    learner = LearnerConfig(
        ranks=4,
        zero_stage=3,
        overlap_comm=True,
        reduce_bucket=1000,
        offload=OffloadConfig(optimizer="cpu", parameters="cpu"),
        logprob_chunk=256,
    )
    expected = Settings(
        zero_stage=3, ranks=4, chunk=256, bucket=1000, overlap=True, offload_optimizer=True, offload_parameters=True
    )
    assert Settings.of(learner, "bfloat16") == expected
    assert Settings.of(LearnerConfig(), "float32") == Settings(size=4)


def test_buckets():
    """2 bytes an element: two of ZeRO 2 with overlap, one of ZeRO 3; as large as asked, or as the model."""
    for asked, elements in ((3 * COUNT, 3 * COUNT), (None, COUNT)):
        second = estimate(SHAPE, Settings(zero_stage=2, ranks=4, bucket=asked, overlap=True), BATCH)
        third = estimate(SHAPE, Settings(zero_stage=3, ranks=4, bucket=asked, overlap=True), BATCH)
        assert (second.buckets, third.buckets) == (2 * 2 * elements, 2 * elements)
    assert REDUCE_BUCKET == GIVEN_BUCKET


def test_offload_moves_states_to_the_host():
    """4 ranks: 16 bytes and the bf16 copy of a quarter; with the parameters the quarter's own 2 bytes."""
    found = estimate(SHAPE, Settings(zero_stage=3, ranks=4, offload_optimizer=True), BATCH)
    assert (found.gradients, found.optimizer, found.host) == (0, 0, 18 * COUNT // 4)
    both = estimate(SHAPE, Settings(zero_stage=3, ranks=4, offload_optimizer=True, offload_parameters=True), BATCH)
    assert found.weights - both.weights == 2 * COUNT // 4
    assert both.host == 20 * COUNT // 4
    learner = LearnerConfig(ranks=4, zero_stage=3, offload=OffloadConfig(optimizer="cpu", parameters="cpu"))
    assert both.host == offloaded_bytes(learner, COUNT, 2 * COUNT)
    assert both.total == both.weights + both.buckets + both.activations + both.workspace


def test_a_layer_keeps_what_its_backward_pass_reads():
    """4 x 8 of stream and norms, 2 x 8 of q and output, 2 x 4 of k and v, 3 x 16 of the perceptron: 104 numbers of 2
    bytes; 2 inverse roots and 4 log-sum-exps of 4. Two ranks: the output once more; 4 ranks share 2 key heads as 4.
    Where silu(gate) is kept, 16 more."""
    assert layer_kept(SHAPE, 1, 2, HOST) == 2 * 104 + 4 * 6
    assert layer_kept(SHAPE, 2, 2, HOST) == 2 * 112 + 4 * 6
    assert layer_kept(SHAPE, 4, 2, HOST) == 2 * 120 + 4 * 6
    assert layer_kept(SHAPE, 1, 2, DEVICE) == 2 * 120 + 4 * 6


def test_a_layer_works_in_the_higher_of_two_moments():
    """The stream's gradient, 8, and two of 16 in the perceptron. With 2 instead of 16, attention is higher: gradients
    of q, output, k and v, 2 x 8 + 2 x 4; key sums of 8 bytes for 8 numbers, packed keys of 12 for 4, without two norms
    (2 x 8) and the perceptron (3 x 2)."""
    assert layer_working(SHAPE, 1, 2, HOST) == 2 * (8 + 32)
    narrow = replace(SHAPE, inner=2)
    assert layer_working(narrow, 1, 2, HOST) == 2 * 8 + 2 * 24 + 8 * 8 + 12 * 4 - 2 * (16 + 6)
    assert layer_working(narrow, 1, 2, DEVICE) == 2 * 8 + 2 * 24 + 14 * 8 + 12 * 4 - 2 * (16 + 8)


def test_activations_of_a_pass_with_and_without_checkpointing():
    """1,000 tokens. All three layers, and on a device, where the head has tiles, the last norm's input, hidden states
    and 10 probabilities: 264 x 3 + 16 + 16 + 20. With checkpointing the highest moment is the last layer's: 3 inputs of
    16, and a layer again without its input."""
    batch = MicroBatch(tokens=1000, targets=1000)
    assert estimate(SHAPE, Settings(), batch, DEVICE).activations == 1000 * (3 * 264 + 16 + 16 + 20)
    assert estimate(SHAPE, Settings(), batch, HOST).activations == 1000 * 3 * 232
    found = estimate(SHAPE, Settings(gradient_checkpointing=True), batch)
    assert (found.activations, found.workspace) == (1000 * (3 * 16 + 232 - 16), 1000 * 80)


def test_chunks_of_the_head():
    """2,000 targets of vocabulary 100,000: the gradients of the hidden states and of the head, 800,000 numbers, in
    bf16. In chunks of 1,000 also their sum in float32; on a CPU also a copy that lies the other way round."""
    shape = replace(SHAPE, vocabulary=100_000)
    batch = MicroBatch(tokens=2000, targets=2000)
    for kernels, chunk, each in ((HOST, 1000, 2 + 4 + 2), (DEVICE, 1000, 2 + 4), (DEVICE, 2000, 2)):
        found = estimate(shape, Settings(chunk=chunk), batch, replace(kernels, tile=0))
        assert found.workspace == 2000 * 16 + 800_000 * each


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


def test_adapters_have_states_and_the_weights_beside_them_none():
    """Rank 2, all linear: q and o 2 x 16, k and v 2 x 12, perceptron 3 x 24, 128 sides, 3 layers: 768 numbers. ZeRO 1
    on 4 ranks: 2 bytes a frozen weight and an adapter's, 4 + 12 / 4 of an adapter's. The head's backward pass makes the
    gradient of 64 x 8 hidden states alone; a layer keeps 7 products of rank 2 more."""
    adapted = Settings(ranks=4, lora=LoraConfig(rank=2))
    count = 2 * 3 * 128
    found = estimate(SHAPE, adapted, BATCH)
    assert (found.weights, found.gradients, found.optimizer) == (2 * (COUNT + count), 4 * count, 3 * count)
    third = estimate(SHAPE, replace(adapted, zero_stage=3), BATCH)
    assert third.weights == 2.5 * COUNT + 2 * count // 4 and third.buckets == 2 * count
    large = MicroBatch(tokens=1000, targets=1)
    kept = [estimate(SHAPE, replace(s, ranks=1), large).activations for s in (adapted, Settings())]
    assert kept[0] - kept[1] == 1000 * 3 * 7 * 2 * 2


def test_adapters_stand_where_targets_and_trained_parts_say():
    """Rank 2. q_proj: 8 to 8, 3 layers. `up_proj` is a layer of the tower's blocks too: 8 to 12, 2 blocks."""
    lora = LoraConfig(rank=2, targets=("q_proj", "layers.0.mlp.up_proj"))
    assert adapter_parameters(TOWER, lora, ("language",)) == 2 * 3 * (16 + 24)
    assert adapter_parameters(TOWER, lora, ("encoder",)) == 2 * 2 * 20
    assert adapter_parameters(SHAPE, lora, ()) == 2 * 3 * (16 + 24), "a text model is trained whole"


def test_a_reference_beside_adapters_takes_no_memory():
    tree = {
        "model": {"path": "m"},
        "data": {"train": "t"},
        "trainer": {"run_dir": "r", "steps": 1},
        "learner": {"lora": {"rank": 2}},
    }
    plain, held = (
        stage_memory(SHAPE, True, checked(GrpoConfig, tree | {"algorithm": {"kl_weight": weight}}, "grpo"))
        for weight in (0.0, 0.1)
    )
    assert plain == held


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


def test_a_gated_tower_keeps_a_gate_as_the_language_model_does():
    gated = replace(TOWER, tower=replace(TOWER.tower, gated=True))
    for kernels in (HOST, DEVICE):
        found = tower_kept(gated, Settings(), kernels) - tower_kept(TOWER, Settings(), kernels)
        assert found == 2 * (kernels.perceptron - 2) * 12 * 2


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
    merged = checked(PretrainConfig, stage | {"learner": {"pack_tokens": 64, "micro_batch_tokens": 200}}, "pretrain")
    fuller = MicroBatch(tokens=200, targets=200)
    assert stage_memory(SHAPE, False, merged) == estimate(SHAPE, Settings(), fuller, HOST)


def test_a_reference_is_a_second_model_on_every_rank():
    """bf16: 2 bytes for each of the 1,944 parameters."""
    tree = {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"run_dir": "r", "steps": 1}}
    plain = stage_memory(SHAPE, False, checked(GrpoConfig, tree, "grpo"))
    found = stage_memory(SHAPE, False, checked(GrpoConfig, tree | {"algorithm": {"kl_weight": 0.1}}, "grpo"))
    assert found == replace(plain, weights=plain.weights + 2 * COUNT)
