"""Sizes from a `config.json` alone: as many parameters as transformers builds; none where the file says too little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from pangu_rl.errors import DataError
from pangu_rl.learner.measure.model_shape import (
    MINDVL_TOWER,
    PANGU_TOWER,
    ModelShape,
    read_shape,
    shape_of,
    stored_parameters,
)
from pretrain.auto import register_auto_classes
from pretrain.families.pangu import Pangu
from pretrain.models.configuration import MindVLConfig, PanguVLConfig
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from tests.contracts.source_tree import ROOT

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TEXTS = [
    {"model_type": "llama", "tie_word_embeddings": True},
    {"model_type": "llama", "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    {"model_type": "qwen2", "tie_word_embeddings": False},
    {"model_type": "qwen3", "tie_word_embeddings": True, "head_dim": 16},
]


@pytest.mark.parametrize("fields", TEXTS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_parameters_are_those_that_transformers_builds(fields):
    kind = {name: value for name, value in fields.items() if name != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(fields["model_type"], **SIZES, **kind))
    assert shape_of(SIZES | fields).parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["configs/models/openpangu_vl_7b", "openpangu_vl", "mindvl"])
def test_parameters_of_each_part_of_a_model_with_a_tower(kind, tmp_path: Path):
    """The released file, flat as it is; and files of ours, whose towers keep every default."""
    register_auto_classes()
    folder = ROOT / kind if "/" in kind else tmp_path
    if "/" not in kind:
        fields = {"model_type": kind, "text_config": SIZES | TEXTS[1]}
        (folder / "config.json").write_text(json.dumps(fields))
    with torch.device("meta"):
        model = PanguVLForConditionalGeneration(AutoConfig.from_pretrained(folder))
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        counts[Pangu({}, folder).part(name)] = counts.get(Pangu({}, folder).part(name), 0) + parameter.numel()
    assert read_shape(folder).parts == counts


@pytest.mark.parametrize("name, billions", [("qwen3_32b", 32.8), ("qwen2_5_vl_72b", 72.7), ("mindvl_8b", 8.2)])
def test_language_models_have_as_many_parameters_as_their_authors_say(name, billions):
    """From the model cards of Qwen3-32B, Qwen2.5-72B and Qwen3-8B."""
    shape = read_shape(ROOT / "configs/models" / name)
    assert shape is not None and round(shape.parts["language"] / 1e9, 1) == billions


def test_what_a_tower_leaves_out_is_the_configuration_classes_default():
    for ours, config in ((PANGU_TOWER, PanguVLConfig()), (MINDVL_TOWER, MindVLConfig())):
        vision = config.vision_config
        assert {name: _plain(getattr(vision, name)) for name in ours} == {k: _plain(v) for k, v in ours.items()}


def test_no_shape_is_better_than_a_wrong_one(tmp_path: Path):
    assert read_shape(tmp_path) is None
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hidden_size": 32}))
    assert read_shape(tmp_path) is None
    config.write_text(json.dumps(SIZES | TEXTS[0]))
    shape = read_shape(tmp_path)
    assert isinstance(shape, ModelShape)
    save_file({"all": torch.zeros(shape.parameters)}, tmp_path / "model-1.safetensors")
    assert stored_parameters(tmp_path) == shape.parameters
    assert read_shape(tmp_path) == shape
    # Experts: more weights than the sizes explain.
    save_file({"more": torch.zeros(shape.parameters // 10)}, tmp_path / "model-2.safetensors")
    assert read_shape(tmp_path) is None


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134\n",
        b"",
        b'\x08\0\0\0\0\0\0\0{"a": 1',
        b"\x02\0\0\0\0\0\0\0[]",
    ],
)
def test_a_pointer_or_a_cut_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(
        DataError, match=r"model.safetensors: no safetensors file \(\d+ bytes; cut short, or git-lfs' pointer"
    ):
        stored_parameters(tmp_path)
