"""One rank under DeepSpeed: the step is the reference step, a reload is exact to the bit, bad gradients are skipped."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import CheckpointError, ConfigError, RunError
from pangu_rl.learner.model import load_causal_lm
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch, Pack
from tests.unit.data.groups import make_group
from tests.unit.learner.builders import llama, save_llama, tree_pack

pytestmark = pytest.mark.usefixtures("rendezvous")
PACKS = (tree_pack([(6, [9, 4]), (11, [5, 7, 2])]), tree_pack([(5, [8, 3])], seed=1, first_sequence=5))


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


def spec(path: Path, *, stage: int = 1, dtype: str = "float32", **options: object) -> LearnerSpec:
    learner = {"zero_stage": stage, "optimizer": OptimizerConfig(lr=1e-3)} | options
    return LearnerSpec(
        model=ModelConfig(path=str(path), dtype=dtype),
        learner=LearnerConfig(**learner),
        objective="grpo",
        algorithm=GrpoAlgorithmConfig(),
        total_steps=10,
    )


def build(*args: object, **kwargs: object):
    from pangu_rl.learner.learner import Learner

    return Learner(spec(*args, **kwargs))


def batch(*packs: Pack) -> MiniBatch:
    return MiniBatch(
        packs=packs,
        loss_tokens=sum(len(pack.targets) for pack in packs),
        loss_sequences=sum(len(set(pack.sequence_ids)) for pack in packs),
    )


def weights_of(learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.outlet.stream()}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_mini_batches_equal_a_reference_loop_and_clip(model_path: Path, stage: int) -> None:
    # The large eps keeps Adam from blowing up the rounding of gradients near 0, which it divides by their size.
    config = OptimizerConfig(lr=4e-2, eps=1e-3, grad_clip=0.3, weight_decay=0.1, schedule="linear", warmup_steps=1)
    learner = build(model_path, stage=stage, optimizer=config)
    metrics = learner.update([batch(PACKS[0]), batch(PACKS[0], PACKS[1])])

    from pangu_rl.learner.optimizer import rate_at
    from tests.numerics.test_packed_attention import log_probs

    lm = llama()
    norms = [parameter for parameter in lm.parameters() if parameter.ndim == 1]
    matrices = [parameter for parameter in lm.parameters() if parameter.ndim > 1]
    groups = [{"params": matrices}, {"params": norms, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=config.lr, eps=1e-3, weight_decay=0.1)
    old = {id(pack): log_probs(lm, pack).detach() for pack in PACKS}
    for step, packs in enumerate([(PACKS[0],), PACKS]):
        adam.zero_grad()
        tokens, clipped, total = sum(len(pack.targets) for pack in packs), 0, 0.0
        for pack in packs:
            logp, advantages = log_probs(lm, pack), torch.from_numpy(pack.columns["advantages"])
            ratio = (logp - old[id(pack)]).exp()
            loss = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages).sum() / tokens
            loss.backward()
            total += loss.item()
            clipped += ((ratio < 0.8) & (advantages < 0)).sum().item()
        norm = torch.nn.utils.clip_grad_norm_(lm.parameters(), 0.3).item()
        for group in adam.param_groups:
            group["lr"] = config.lr * rate_at(step, 10, config)
        adam.step()
        assert metrics[step]["loss"] == pytest.approx(total, abs=1e-6)
        assert metrics[step]["grad_norm"] == pytest.approx(norm, rel=1e-5)
        assert metrics[step]["lr"] == pytest.approx(adam.param_groups[0]["lr"])
        assert metrics[step]["clip_fraction_low"] == pytest.approx(clipped / tokens, abs=1e-6)
        assert metrics[step]["tokens"] == tokens
    assert metrics[0]["ratio_max"] == 1.0
    # Sequences 0 to 4 have 9, 4, 5, 7 and 2 tokens of the first pack, 5 and 6 have 8 and 3 of the second; both steps
    # kept what the weights before the first one found, though the second trained under others.
    first, second = (old[id(pack)].numpy() for pack in PACKS)
    parts = dict(enumerate([*np.split(first, [9, 13, 18, 25]), *np.split(second, [8])]))
    for kept, sequences in zip(learner.old_logprobs, (range(5), range(7)), strict=True):
        assert kept.keys() == set(sequences)
        for sequence in sequences:
            np.testing.assert_allclose(kept[sequence], parts[sequence], atol=1e-5)
    assert metrics[1]["clip_fraction_low"] > 0
    assert metrics[1]["clip_fraction_high"] > 0
    found, expected = weights_of(learner), dict(lm.named_parameters())
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name].detach(), atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize(("stage", "dtype"), [(1, "bfloat16"), (2, "bfloat16"), (3, "bfloat16"), (0, "float32")])
def test_a_reload_continues_to_the_bit(model_path: Path, tmp_path: Path, stage: int, dtype: str) -> None:
    first = build(model_path, stage=stage, dtype=dtype)
    first.update([batch(*PACKS)])
    first.save(tmp_path).result()
    expected = first.update([batch(*PACKS), batch(PACKS[1])])
    second = build(model_path, stage=stage, dtype=dtype)
    second.load(tmp_path)
    assert second.update([batch(*PACKS), batch(PACKS[1])]) == expected
    before, after = weights_of(first), weights_of(second)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_the_packing_check_passes_and_changes_nothing(model_path: Path, stage: int) -> None:
    learner, twin = build(model_path, stage=stage), build(model_path, stage=stage)
    found = learner.check_packing()
    assert max(found.order, found.plain) < 2e-6 and found.tokens == 38
    assert learner.update([batch(*PACKS)]) == twin.update([batch(*PACKS)])


def test_a_checkpoint_from_before_decay_had_groups_is_read_or_refused(model_path: Path, tmp_path: Path) -> None:
    """Without weight decay it is the same; with it, norms had decayed and the optimizer's groups are others."""
    learner = build(model_path)
    learner.save(tmp_path).result()
    state = tmp_path / "learner.json"
    saved = json.loads(state.read_text())
    assert saved.pop("parameter_groups") == {"lr": [20]}
    state.write_text(json.dumps(saved))
    learner.load(tmp_path)
    decaying = build(model_path, optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.1))
    with pytest.raises(
        CheckpointError, match=r"saved with parameter_groups {'lr': \[20\]}, this run has {'lr': \[15, 5\]}"
    ):
        decaying.load(tmp_path)


def test_a_checkpoint_of_another_run_is_refused(model_path: Path, tmp_path: Path) -> None:
    learner = build(model_path)
    with pytest.raises(CheckpointError, match="not a learner checkpoint"):
        learner.load(tmp_path)
    learner.save(tmp_path).result()
    other = build(model_path, stage=2)
    with pytest.raises(CheckpointError, match="saved with zero_stage 1, this run has 2"):
        other.load(tmp_path)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_missing_file_is_named(model_path: Path, tmp_path: Path, stage: int) -> None:
    learner = build(model_path, stage=stage)
    learner.save(tmp_path).result()
    files = [*(tmp_path / "engine").glob("*_states.pt"), tmp_path / "rng_0.pt"]
    assert len(files) == 3
    for file in files:
        aside = file.rename(tmp_path / "aside")
        with pytest.raises(CheckpointError, match=f"{file.name} is missing"):
            build(model_path, stage=stage).load(tmp_path)
        aside.rename(file)
    build(model_path, stage=stage).load(tmp_path)


def test_a_checkpoint_runs_no_code(model_path: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    learner = build(model_path)
    learner.save(tmp_path).result()
    [file] = (tmp_path / "engine").glob("*optim_states.pt")
    torch.save({"optimizer_state_dict": Payload()}, file)
    with pytest.raises(Exception, match="Weights only load failed"):
        learner.load(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("stage", [1, 3])
def test_an_export_reloads_to_identical_logits(model_path: Path, tmp_path: Path, stage: int) -> None:
    learner = build(model_path, stage=stage, dtype="bfloat16")
    learner.update([batch(*PACKS)])
    learner.outlet.export(tmp_path).result()
    ids = torch.from_numpy(PACKS[0].token_ids)[None]
    loaded = load_causal_lm(ModelConfig(path=str(tmp_path), dtype="bfloat16"))
    loaded.set_attn_implementation("sdpa")
    assert loaded.dtype is torch.bfloat16
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    learner.lm.set_attn_implementation("sdpa")
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, learner.lm(ids, use_cache=False).logits)


def test_published_names_are_those_of_the_checkpoint_with_tied_tensors_once(model_path: Path) -> None:
    from safetensors import safe_open

    learner = build(model_path)
    manifest = learner.outlet.publish(1)
    learner.outlet.open_publisher("shm")
    with safe_open(model_path / "model.safetensors", framework="np") as file:
        assert {tensor.name for tensor in manifest.tensors} == set(file.keys())
    learner.outlet.close()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_non_finite_gradient_is_skipped_counted_and_in_the_end_refused(model_path: Path, stage: int) -> None:
    learner = build(model_path, stage=stage, nonfinite_limit=2)
    poisoned = replace(PACKS[0], columns=PACKS[0].columns | {"advantages": np.full(27, np.inf, np.float32)})
    before = weights_of(learner)
    assert [metrics["skipped"] for metrics in learner.update([batch(poisoned)])] == [1.0]
    assert learner.update([batch(poisoned)])[0]["lr"] == pytest.approx(1e-3)
    after = weights_of(learner)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert learner.update([batch(PACKS[0])])[0]["skipped"] == 0.0
    learner.update([batch(poisoned)])
    learner.update([batch(poisoned)])
    with pytest.raises(RunError, match="not finite in 3 steps in a row"):
        learner.update([batch(poisoned)])


def test_empty_pack_changes_nothing(model_path: Path) -> None:
    from pangu_rl.data.packs.batching import empty_pack

    plain, padded = build(model_path), build(model_path)
    full = batch(PACKS[0])
    expected = plain.update([full])
    found = padded.update([replace(full, packs=(*full.packs, empty_pack(tuple(PACKS[0].columns))))])
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(weights_of(plain).values(), weights_of(padded).values()))


def test_outlines_train_as_the_packs_that_they_are(model_path: Path) -> None:
    """Two mini-batches: the second one's old log-probs are worked out first, and stand beside its tokens."""
    from pangu_rl.data.packs.batching import outline_groups
    from pangu_rl.data.packs.micro_batches import merge_packs

    groups = [make_group(name, 6, [9, 4, 5], [1.0, -0.5, 0.25], first_token=10) for name in "abc"]
    for group in groups:
        group.completions = [replace(c, token_ids=tuple(i % 90 for i in c.token_ids)) for c in group.completions]
    alone, *shared = outline_groups(groups, 24)
    outlines = [alone, merge_packs(shared)]
    batches = [batch(outline.lay_out()) for outline in outlines]
    whole, outlined = build(model_path), build(model_path)
    expected = whole.update(batches)
    assert outlined.update([replace(b, packs=(outline,)) for b, outline in zip(batches, outlines)]) == expected
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole).values(), weights_of(outlined).values()))


def test_bfloat16_needs_zero_1(model_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learner.zero_stage=1"):
        build(model_path, stage=0, dtype="bfloat16")


@pytest.mark.parametrize(("parameters", "bucket"), [(1000, 1000), (7_000_000_000, 500_000_000)])
def test_gradients_are_reduced_in_buckets_no_larger_than_the_model(
    model_path: Path, parameters: int, bucket: int
) -> None:
    from pangu_rl.learner.parallel.zero import deepspeed_config

    assert deepspeed_config(spec(model_path), parameters)["zero_optimization"]["reduce_bucket_size"] == bucket


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"stage": 2}, {"overlap_comm": False, "reduce_bucket_size": 9000, "stage3_prefetch_bucket_size": 50_000_000}),
        ({"stage": 3, "accelerator": "cuda"}, {"overlap_comm": True}),
        ({"stage": 2, "accelerator": "cuda"}, {"overlap_comm": False}),
        ({"stage": 2, "accelerator": "cuda", "overlap_comm": True}, {"overlap_comm": True}),
        ({"stage": 3, "accelerator": "cuda", "overlap_comm": False}, {"overlap_comm": False}),
        ({"stage": 3}, {"overlap_comm": False}),
        ({"stage": 3, "reduce_bucket": 70, "prefetch_bucket": 0},
         {"reduce_bucket_size": 70, "stage3_prefetch_bucket_size": 0}),
    ],
)  # fmt: skip
def test_communication_is_what_the_configuration_says(model_path: Path, settings: dict, expected: dict) -> None:
    from pangu_rl.learner.parallel.zero import deepspeed_config

    accelerator = settings.pop("accelerator", "cpu")
    found = deepspeed_config(replace(spec(model_path, **settings), accelerator=accelerator), 9000)["zero_optimization"]
    assert {name: found[name] for name in expected} == expected


def test_a_device_without_streams_overlaps_nothing(model_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"overlap_comm is true and the ranks run on cpu.*set it to null"):
        build(model_path, stage=2, overlap_comm=True)


def test_a_peak_is_measured_or_said_and_draws_no_number(model_path: Path) -> None:
    learner = build(model_path)
    state = torch.get_rng_state()
    assert 1e9 < learner.peak_flops() < 1e15
    assert torch.equal(torch.get_rng_state(), state)
    assert build(model_path, peak_tflops=2.0).peak_flops() == 2e12


def test_a_step_counts_the_flops_of_its_packs(model_path: Path) -> None:
    from pangu_rl.learner.measure.flops import ModelFlops

    [metrics] = build(model_path).update([batch(*PACKS)])
    flops = ModelFlops.of(llama().config)
    done = sum(flops.of_training(pack, ("language",)) for pack in PACKS)
    assert metrics["tflop"] == pytest.approx(done / 1e12, rel=1e-6)


def test_zero_3_keeps_no_buffer_larger_than_its_model(model_path: Path) -> None:
    learner = build(model_path, stage=3)
    learner.update([batch(*PACKS)])
    count = sum(parameter.ds_numel for parameter in learner.engine.module.parameters())
    buffers = [bucket.buffer for bucket in learner.engine.optimizer.ipg_buckets.values() if bucket.buffer is not None]
    assert buffers and all(buffer.numel() <= count for buffer in buffers)


def test_a_profiled_update_is_the_same_update(model_path: Path, tmp_path: Path) -> None:
    plain, watched = build(model_path), build(model_path)
    folder = tmp_path / "run" / "profile" / "step_1"
    watched.profile_next(folder)
    for _ in range(2):
        assert plain.update([batch(*PACKS)]) == watched.update([batch(*PACKS)])
    assert sorted(path.name for path in folder.parent.rglob("*.*")) == [
        "operations.csv",
        "operations.png",
        "trace.json.gz",
    ]
    table = (folder / "operations.csv").read_text()
    assert "Optimizer.step#AdamW.step,optimizer,1," in table, "one step of two"
    assert "_TargetLogprobsBackward,log-probs,2," in table, "both packs of it"


@pytest.mark.parametrize("stage", [1, 2])
def test_the_kl_to_the_start_is_0_there_and_pulls_back_from_elsewhere(model_path: Path, stage: int) -> None:
    """At the start KL and its gradient are 0: the first update is that without a reference. From the second on the KL
    is sum r k3 / tokens, of log-probs before and after the first; and a large weight without advantages goes back."""
    from pangu_rl.learner.learner import Learner

    described = spec(model_path, stage=stage, optimizer=OptimizerConfig(lr=1e-2, eps=1e-2))
    plain = Learner(described)
    first = plain.update([batch(PACKS[0])])[0]
    moved = weights_of(plain)

    learner = Learner(replace(described, algorithm=GrpoAlgorithmConfig(kl_weight=5.0)))
    start, before = weights_of(learner), learner.log_probs([PACKS[0]])[0]
    [metrics] = learner.update([batch(PACKS[0])])
    assert metrics["kl_reference"] == 0
    assert metrics["loss"] == first["loss"]
    for name, weight in weights_of(learner).items():
        assert torch.equal(weight, moved[name]), name

    after = learner.log_probs([PACKS[0]])[0]
    gap = before - after
    still = replace(PACKS[0], columns=PACKS[0].columns | {"advantages": np.zeros_like(gap)})
    [metrics] = learner.update([batch(still)])
    assert metrics["kl_reference"] == pytest.approx(np.mean(np.expm1(gap) - gap), rel=1e-4)
    assert metrics["loss"] == pytest.approx(5 * metrics["kl_reference"], rel=1e-5)
    for _ in range(3):
        [later] = learner.update([batch(still)])
    assert later["kl_reference"] < metrics["kl_reference"]
    assert set(weights_of(learner)) == set(start), "the reference is no part of what is published"
