"""Adapters under DeepSpeed: gradients and steps are plain peft's, what is published is what runs, reloads are exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, inject_adapter_in_model
from safetensors.torch import load_file

from pangu_rl.checkpoint.adapter_folder import SIDES, parameter_name
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.lora import GrpoLoraConfig, LoraConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import CheckpointError, ConfigError
from pangu_rl.learner.lora import adapters_of, add_adapters, target_layers
from pangu_rl.learner.model import load_causal_lm
from pangu_rl.learner.weights.publish import read_tensor
from tests.unit.learner.builders import llama, save_llama
from tests.unit.learner.test_learner import PACKS, batch, spec, weights_of
from tests.unit.learner.vl_builders import pangu_vl

pytestmark = pytest.mark.usefixtures("rendezvous")

LORA = LoraConfig(rank=4, alpha=8.0)
APART = GrpoLoraConfig(rank=4, alpha=8.0, in_engines="apart")
LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


def build(path: Path, *, kl_weight: float = 0.0, lora: LoraConfig = LORA, **options: object):
    from pangu_rl.learner.learner import Learner

    described = spec(path, lora=lora, **options)
    return Learner(replace(described, algorithm=GrpoAlgorithmConfig(kl_weight=kl_weight)))


def base_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_steps_are_those_of_plain_peft(model_path: Path, stage: int) -> None:
    """Autograd through peft's own forward, and torch's AdamW over peft's parameters, from the same A and B."""
    from tests.numerics.test_packed_attention import log_probs

    config = OptimizerConfig(lr=4e-2, eps=1e-3, grad_clip=0.3)
    learner = build(model_path, stage=stage, optimizer=config)
    start = {name: tensor.clone() for name, tensor in learner.outlet.tensors.adapter_stream()}
    metrics = learner.update([batch(*PACKS)]) + learner.update([batch(PACKS[1])])

    lm = llama()
    inject_adapter_in_model(PeftConfig(r=4, lora_alpha=8, target_modules=list(LINEAR)), lm)
    trained = {name: parameter for name, parameter in lm.named_parameters() if parameter.requires_grad}
    named = {f"base_model.model.{name.replace('.default', '')}": parameter for name, parameter in trained.items()}
    assert named.keys() == start.keys()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(start[name])
    adam = torch.optim.AdamW(trained.values(), lr=config.lr, eps=config.eps, weight_decay=0.0)
    for step, packs in enumerate([PACKS, (PACKS[1],)]):
        adam.zero_grad()
        tokens = sum(len(pack.targets) for pack in packs)
        for pack in packs:
            logp = log_probs(lm, pack)
            ratio = (logp - logp.detach()).exp()
            (-(ratio * torch.from_numpy(pack.columns["advantages"])).sum() / tokens).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), config.grad_clip).item()
        adam.step()
        assert metrics[step]["grad_norm"] == pytest.approx(norm, rel=1e-5)
    for name, tensor in learner.outlet.tensors.adapter_stream():
        # A step moves each entry by up to 4e-2.
        torch.testing.assert_close(tensor, named[name].detach(), atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("stage", [0, 3])
def test_what_is_published_computes_what_the_adapters_do(model_path: Path, stage: int) -> None:
    """The names are the base model's; frozen tensors are its own to the bit, the others moved; a model with the
    published weights has the learner's log-probs, to what the order of float32 sums makes of them (4e-6 of log-probs to
    8): the adapters move these by 10^4 times as much."""
    from tests.numerics.test_packed_attention import log_probs

    learner = build(model_path, stage=stage)
    learner.update([batch(*PACKS)] * 2)
    published, base = weights_of(learner), base_weights(model_path)
    assert published.keys() == base.keys()
    for name, tensor in published.items():
        assert torch.equal(tensor, base[name]) is not name.endswith(tuple(f"{layer}.weight" for layer in LINEAR)), name
    manifest = learner.outlet.publish(1)
    assert [tensor.name for tensor in manifest.tensors] == list(published)
    learner.outlet.close()

    lm = llama()
    lm.load_state_dict(published, strict=False)
    bare = llama()
    for pack, found, off in zip(PACKS, learner.log_probs(PACKS), learner.log_probs(PACKS, adapted=False), strict=True):
        np.testing.assert_allclose(found, log_probs(lm, pack).detach().numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(off, log_probs(bare, pack).detach().numpy(), atol=1e-5, rtol=0)
        assert np.abs(found - off).max() > 0.1


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


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_checkpoint_has_no_frozen_weight(model_path: Path, tmp_path: Path, stage: int) -> None:
    """float32: 4 bytes a number of the adapters in the model's states and 12 in the optimizer's; a pickle takes some
    hundred bytes a tensor, of which 28 are in six places at most."""
    learner = build(model_path, stage=stage)
    learner.update([batch(PACKS[0])])
    learner.save(tmp_path).result()
    adapters = sum(parameter.numel() for parameter in learner.lm.parameters() if parameter.requires_grad)
    base = sum(tensor.numel() for tensor in base_weights(model_path).values())
    if stage == 3:
        adapters = sum(parameter.ds_numel for parameter in learner.lm.parameters() if parameter.requires_grad)
    states = sum(file.stat().st_size for file in tmp_path.rglob("*.pt") if "states" in file.name)
    assert states < 16 * adapters + 28 * 6 * 400
    wide = torch.load(next(tmp_path.rglob("*model_states.pt")), weights_only=False)["module"]
    assert all("lora_" in name for name in wide)
    assert sum(tensor.numel() for tensor in wide.values()) <= adapters < base


def test_a_resume_with_other_adapters_is_refused(model_path: Path, tmp_path: Path) -> None:
    learner = build(model_path)
    learner.save(tmp_path).result()
    with pytest.raises(CheckpointError, match=r"saved with lora .*'alpha': 8.0.*this run has .*'alpha': 16.0"):
        build(model_path, lora=LoraConfig(rank=4, alpha=16.0)).load(tmp_path)
    with pytest.raises(CheckpointError, match="saved with parameters"):
        build(model_path, lora=LoraConfig(rank=2, alpha=8.0)).load(tmp_path)


@pytest.mark.parametrize("stage", [1, 3])
def test_an_export_is_an_adapter_that_peft_loads(model_path: Path, tmp_path: Path, stage: int) -> None:
    learner = build(model_path, stage=stage)
    learner.update([batch(*PACKS)])
    learner.outlet.export_adapters(tmp_path).result()
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model_path)
    assert (config["r"], config["lora_alpha"]) == (4, 8.0)
    assert config["target_modules"] == sorted(target_layers(llama(), LearnerConfig(lora=LORA)))
    ids = torch.from_numpy(PACKS[0].token_ids)[None]
    learner.lm.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = learner.engine.module.lm(ids, use_cache=False).logits
        # peft's own forward, another order of sums; the logits are of order 1.
        torch.testing.assert_close(loaded(ids, use_cache=False).logits, expected, atol=1e-5, rtol=0)
        with loaded.disable_adapter():
            assert (loaded(ids, use_cache=False).logits - expected).abs().max() > 1e-2


@pytest.mark.parametrize("stage", [1, 3])
def test_the_kl_is_to_the_model_without_adapters(model_path: Path, stage: int) -> None:
    """At the start it is 0. Later its k3 is worked out of log-probs with and without adapters, and no second model is
    held: ZeRO 3 has a reference too."""
    learner = build(model_path, stage=stage, kl_weight=5.0, optimizer=OptimizerConfig(lr=1e-2, eps=1e-2))
    [metrics] = learner.update([batch(PACKS[0])])
    assert metrics["kl_reference"] == 0
    gap = learner.log_probs([PACKS[0]], adapted=False)[0] - learner.log_probs([PACKS[0]])[0]
    still = replace(PACKS[0], columns=PACKS[0].columns | {"advantages": np.zeros_like(gap)})
    [metrics] = learner.update([batch(still)])
    assert metrics["kl_reference"] == pytest.approx(np.mean(np.expm1(gap) - gap), rel=1e-4) and metrics["loss"] > 0
    assert metrics["loss"] == pytest.approx(5 * metrics["kl_reference"], rel=1e-5)
    for _ in range(3):
        [later] = learner.update([batch(still)])
    assert later["kl_reference"] < metrics["kl_reference"], "the adapters learn after they were switched off and on"


def test_adapters_start_alike_wherever_random_numbers_stand(model_path: Path) -> None:
    first, second = llama(), llama()
    add_adapters(first, LearnerConfig(lora=LORA), seed=3)
    torch.rand(5)
    add_adapters(second, LearnerConfig(lora=LORA), seed=3)
    for one, other in zip(adapters_of(first).values(), adapters_of(second).values(), strict=True):
        assert torch.equal(one.a, other.a) and not one.b.any() and one.scale == 2.0


def test_a_step_counts_no_gradients_of_frozen_weights(model_path: Path) -> None:
    """A layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 48: 7680 weights. Two layers: 30720 a token, 2 * 4 * 32
    = 256 a pair of attention, which has no weights; 2 * 32 * 97 = 6208 a target.

    60 tokens, 38 targets. Pairs: 21 + (45 + 9 * 6) + (10 + 4 * 6) = 154, 66 + (15 + 55) + (28 + 77) + (3 + 22) = 266,
    15 + (36 + 40) + (6 + 15) = 112, together 532.
    """
    [adapted] = build(model_path).update([batch(*PACKS)])
    assert adapted["tflop"] * 1e12 == pytest.approx(2 * (60 * 30720 + 38 * 6208) + 3 * 532 * 256)


@pytest.mark.parametrize("stage", [1, 3])
def test_apart_the_adapters_alone_are_published_as_peft_would_load_them(model_path: Path, stage: int) -> None:
    learner = build(model_path, lora=APART, stage=stage)
    learner.update([batch(*PACKS)])
    own = {name: tensor.clone() for name, tensor in learner.outlet.tensors.adapter_stream()}
    manifest = learner.outlet.publish(1)
    published = torch.from_file(manifest.location, size=Path(manifest.location).stat().st_size, dtype=torch.uint8)
    assert [tensor.name for tensor in manifest.tensors] == list(own)
    for tensor in manifest.tensors:
        assert torch.equal(read_tensor(tensor, published), own[tensor.name])
    assert len(published) == sum(-(-tensor.nbytes // 64) * 64 for tensor in own.values())
    assert (manifest.adapter["r"], manifest.adapter["lora_alpha"]) == (4, 8.0)
    assert {parameter_name(layer, side) for layer in manifest.adapter["target_modules"] for side in SIDES} == {*own}
    learner.outlet.close()


def test_apart_only_the_language_model_has_adapters() -> None:
    with pytest.raises(ConfigError, match=r"apart and learner\.trainable has connector, encoder: .*folded"):
        target_layers(pangu_vl(), LearnerConfig(lora=APART))
    assert target_layers(pangu_vl(), LearnerConfig(lora=APART, trainable=("language",)))


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        (("q_prj",), "no linear layer is named q_prj; there are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, "
                     r"v_proj \(all-linear takes all\)"),
        (("q_proj", "embed_tokens"), "no linear layer is named embed_tokens"),
        (("lm_head",), "lm_head is the output head, whose log-probs"),
    ],
)  # fmt: skip
def test_a_target_that_no_layer_has_is_named(targets: tuple[str, ...], error: str) -> None:
    with pytest.raises(ConfigError, match=f"learner.lora.targets: {error}"):
        target_layers(llama(), LearnerConfig(lora=LoraConfig(rank=4, targets=targets)))


def test_a_rank_above_a_side_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rank 17 exceeds a side of model.layers.0.self_attn.k_proj \(16 x 32\)"):
        target_layers(llama(), LearnerConfig(lora=LoraConfig(rank=17)))


def test_targets_are_ends_of_names() -> None:
    found = target_layers(llama(), LearnerConfig(lora=LoraConfig(rank=4, targets=("v_proj", "layers.1.mlp.up_proj"))))
    assert found == [
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.v_proj",
        "model.layers.1.mlp.up_proj",
    ]


def test_only_parts_that_train_get_adapters() -> None:
    lm = pangu_vl()
    language = target_layers(lm, LearnerConfig(lora=LORA, trainable=("language",)))
    assert language and all(name.startswith("model.") for name in language)
    connector = target_layers(lm, LearnerConfig(lora=LORA, trainable=("connector",)))
    assert connector and all(name.startswith("visual.") and ".blocks." not in name for name in connector)
    with pytest.raises(ConfigError, match=r"qkv is of the encoder alone \(visual.blocks.0.attn.qkv\): add enc"):
        target_layers(lm, LearnerConfig(lora=LoraConfig(rank=4, targets=("qkv",)), trainable=("language",)))


def test_the_model_that_loads_has_fused_layers_below_its_adapters(model_path: Path) -> None:
    lm = load_causal_lm(ModelConfig(path=str(model_path), dtype="float32"))
    add_adapters(lm, LearnerConfig(lora=LORA), seed=0)
    assert lm.model.layers[0].mlp.up_proj.base_layer.forward.func.__name__ == "_linear"
