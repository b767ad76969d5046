"""An exported folder: what transformers itself would write, in shards where it is large, never whole in memory."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from pangu_rl.checkpoint.model_tensors import INDEX, ModelTensors
from pangu_rl.learner.weights.export import plan_export, planned_names, write_model
from pangu_rl.learner.weights.tensors import ModelWeights
from pretrain.auto import register_auto_classes
from tests.unit.learner.builders import llama
from tests.unit.learner.vl_builders import pangu_vl


def mixtral() -> PreTrainedModel:
    """Its experts are fused in the model and apart in a checkpoint."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    return MixtralForCausalLM(MixtralConfig(**sizes, **heads)).eval()


MODELS = {
    "tied": llama,
    "untied": lambda: llama(tied=False),
    "multimodal": pangu_vl,
    "experts": mixtral,
    "two dtypes": lambda: in_two_dtypes(llama(tied=False)),
}


def in_two_dtypes(lm: PreTrainedModel) -> PreTrainedModel:
    lm.model.layers[1].to(torch.bfloat16)
    return lm


def weights_of(lm: PreTrainedModel) -> ModelWeights:
    return ModelWeights(lm, gathered=lambda parameter: torch.no_grad())


def export(lm: PreTrainedModel, folder: Path, shard_bytes: int) -> Path:
    weights = weights_of(lm)
    plan = plan_export(lm, weights.described(), shard_bytes)
    write_model(folder, lm, plan, weights.stream(planned_names(plan)), source=folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_one_file_is_transformers_own_to_the_byte(tmp_path: Path, name: str) -> None:
    lm = MODELS[name]()
    lm.save_pretrained(tmp_path / "theirs", state_dict=dict(weights_of(lm).stream()))
    ours = export(lm, tmp_path / "ours", 2**30)
    for file in sorted((tmp_path / "theirs").iterdir()):
        found, expected = (ours / file.name), file
        if name == "experts" and file.suffix == ".safetensors":
            assert_equal(load_file(found), load_file(expected))
        else:
            assert found.read_bytes() == expected.read_bytes(), file.name
    assert {file.name for file in ours.iterdir()} == {file.name for file in (tmp_path / "theirs").iterdir()}


@pytest.mark.parametrize("name", MODELS)
def test_shards_hold_the_same_tensors_and_reload(tmp_path: Path, name: str) -> None:
    """No shard of more than 16 KiB, but where one tensor (or one layer's experts) is larger."""
    lm = MODELS[name]()
    export(lm, tmp_path / "one", 2**30)
    folder = export(lm, tmp_path / "many", 2**14)
    stored = ModelTensors(folder)
    assert len(stored.shards) > 3
    assert not (folder / "model.safetensors").exists()
    assert_equal({entry: stored.read(entry) for entry in stored.entries}, load_file(tmp_path / "one/model.safetensors"))
    for shard, entries in stored.shards.items():
        assert sum(entry.bytes for entry in entries) <= 2**14 or len(entries) == 1 or name == "experts", shard
    index = json.loads((folder / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(entry.bytes for entry in stored.entries.values())
    if name != "two dtypes":
        register_auto_classes()
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        assert_equal(dict(loaded.named_parameters()), dict(lm.named_parameters()))


def test_an_older_export_leaves_nothing(tmp_path: Path) -> None:
    export(llama(), tmp_path, 2**14)
    export(llama(), tmp_path, 2**30)
    assert {file.name for file in tmp_path.iterdir()} == {"model.safetensors", "config.json", "generation_config.json"}


def test_the_sources_generation_config_is_kept_as_it_is(tmp_path: Path) -> None:
    """Also one that transformers itself refuses to save, as several published models have."""
    lm, source = llama(), tmp_path / "source"
    source.mkdir()
    text = '{"do_sample": false, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2]}'
    (source / "generation_config.json").write_text(text)
    lm.generation_config = GenerationConfig.from_pretrained(source)
    with pytest.raises(ValueError, match="GenerationConfig"):
        lm.save_pretrained(tmp_path / "theirs", state_dict={})
    weights = weights_of(lm)
    plan = plan_export(lm, weights.described())
    write_model(tmp_path / "ours", lm, plan, weights.stream(planned_names(plan)), source=source)
    assert (tmp_path / "ours" / "generation_config.json").read_text() == text
    assert lm.generation_config.temperature == 0.6


def test_one_tensor_is_held_at_a_time(tmp_path: Path) -> None:
    lm = llama()
    plan = plan_export(lm, weights_of(lm).described(), 2**14)
    given: list[weakref.ref] = []

    def once() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights_of(lm).stream(planned_names(plan)):
            assert not any(ref() is not None for ref in given), name
            copy = tensor.clone()
            given.append(weakref.ref(copy))
            yield name, copy
            del copy

    write_model(tmp_path, lm, plan, once(), source=tmp_path)
    assert len(given) == len(dict(lm.named_parameters()))


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
