"""Checkpoints: both styles of names load, the released one is written, every misfit is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from pangu_rl.errors import DataError
from pretrain.auto import register_auto_classes
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from tests.unit.pretrain.models.tiny import config, model

Tensors = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    register_auto_classes()
    model().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def newer_style(tensors: Tensors) -> Tensors:
    def name(key: str) -> str:
        return "model." + (key if key.startswith("visual.") else key.replace("model.", "language_model.", 1))

    return {key if key.startswith("lm_head") else name(key): tensor for key, tensor in tensors.items()}


def assert_equal(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    pairs = zip(found.named_parameters(), expected.named_parameters(), strict=True)
    for (name, tensor), (other, reference) in pairs:
        assert name == other
        assert torch.equal(tensor, reference), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("auto", [AutoModelForCausalLM, AutoModelForImageTextToText])
def test_round_trip(tmp_path: Path, tied: bool, auto: type) -> None:
    register_auto_classes()
    saved = model(config(tied=tied))
    saved.save_pretrained(tmp_path)
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is PanguVLForConditionalGeneration
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_equal(loaded, saved)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) is tied
    assert set(load_file(tmp_path / "model.safetensors")) == dict(saved.named_parameters()).keys()


def test_the_newer_names_load_and_the_released_ones_are_written(folder: Path, tmp_path: Path) -> None:
    before = load_file(folder / "model.safetensors")
    rewrite(folder, newer_style)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert_equal(loaded, model())
    loaded.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again/model.safetensors").keys() == before.keys()


def test_shards(folder: Path, tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert_equal(AutoModelForCausalLM.from_pretrained(tmp_path / "shards"), model())
    next((tmp_path / "shards").glob("*-00002-of-*")).unlink()
    with pytest.raises(DataError, match="lists 1 files that are not there, the first is model-00002"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "shards")


def test_another_dtype(folder: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    loaded.save_pretrained(folder)
    built = PanguVLForConditionalGeneration(PanguVLForConditionalGeneration.config_class.from_pretrained(folder))
    assert len({parameter.dtype for parameter in built.parameters()}) == 1


def misfit(name: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[Tensors], Tensors]:
    def changed(tensors: Tensors) -> Tensors:
        tensors[name] = change(tensors[name])
        return {key: tensor for key, tensor in tensors.items() if tensor is not None}

    return changed


@pytest.mark.parametrize("style", [dict, newer_style])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            misfit("visual.merger.1.mlp.0.weight", lambda tensor: tensor[:, :-4].contiguous()),
            r"visual.merger.1.mlp.0.weight has shape \[128, 124\], the model of its config.json has \[128, 128\]",
        ),
        (
            misfit("model.layers.0.self_attn.o_proj.bias", lambda tensor: None),
            r"1 tensors of the model .* the first is model.layers.0.self_attn.o_proj.bias \[64\]",
        ),
        (
            lambda tensors: tensors | {"visual.blocks.4.norm1.weight": torch.ones(32)},
            r"tensor visual.blocks.4.norm1.weight has shape \[32\], the model has none",
        ),
    ],
)
def test_a_misfit_is_one_line(
    folder: Path, change: Callable[[Tensors], Tensors], message: str, style: Callable[[Tensors], Tensors]
) -> None:
    rewrite(folder, lambda tensors: style(change(tensors)))
    with pytest.raises(DataError, match=message) as raised:
        AutoModelForCausalLM.from_pretrained(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


def test_computed_frequencies_of_old_checkpoints_are_passed_over(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)})
    assert_equal(AutoModelForCausalLM.from_pretrained(folder), model())


def test_a_truncated_file(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a whole safetensors file"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_broken_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weights": 1}))
    with pytest.raises(DataError, match="not an index of weights"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_mismatched_sizes_are_allowed_when_asked_for(folder: Path) -> None:
    rewrite(folder, misfit("lm_head.weight", lambda tensor: tensor[:-1].contiguous()))
    loaded = AutoModelForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True)
    assert loaded.lm_head.weight.shape == (97, 64)
