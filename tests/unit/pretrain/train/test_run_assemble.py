"""A model of parts: each part is its folder's, what is null is random, and the folder is one that stages train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.load import checked
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.model import load_causal_lm
from pretrain.families.pangu import Pangu
from pretrain.processing.resize import PixelLimits, read_limits
from pretrain.train.run_assemble import MODEL, PARTS, run_assemble


def config(folder: Path, source: Path, **change: Any) -> AssembleConfig:
    parts = {"encoder": str(source), "language": str(source), "tokenizer": str(source), "dtype": "bfloat16"}
    tree = {"shape": str(source), "trainer": {"run_dir": str(folder)}} | parts | change
    return checked(AssembleConfig, tree, "test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_each_part_is_its_folders_and_the_rest_is_random(tmp_path: Path, tiny_vl_model: Path) -> None:
    trainer = {"run_dir": str(tmp_path / "a"), "seed": 1}  # that of the source is 0
    found = run_assemble(config(tmp_path / "a", tiny_vl_model, min_pixels=3136, max_pixels=50176, trainer=trainer))
    mine, theirs = weights(tmp_path / "a" / MODEL), weights(tiny_vl_model)
    assert mine.keys() == theirs.keys()
    family = Pangu({}, tiny_vl_model)
    for name, tensor in mine.items():
        # Norms and biases start alike everywhere.
        random = family.part(name) == "connector" and tensor.dim() > 1
        assert torch.equal(tensor, theirs[name]) is not random, name
    assert found["random"] == ["connector"]
    assert found["parameters"]["connector"] == sum(t.numel() for n, t in mine.items() if family.part(n) == "connector")
    assert read_limits(tmp_path / "a" / MODEL) == PixelLimits(3136, 50176)
    lm = load_causal_lm(ModelConfig(path=str(tmp_path / "a" / MODEL)))
    assert sum(parameter.numel() for parameter in lm.parameters()) == sum(found["parameters"].values())


def test_what_is_random_follows_from_the_seed(tmp_path: Path, tiny_vl_model: Path) -> None:
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_assemble(config(tmp_path / name, tiny_vl_model, trainer={"run_dir": str(tmp_path / name), "seed": seed}))
        made[name] = (tmp_path / name / MODEL / "model.safetensors").read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_a_connector_of_an_earlier_run(tmp_path: Path, tiny_vl_model: Path) -> None:
    found = run_assemble(config(tmp_path / "a", tiny_vl_model, connector=str(tiny_vl_model)))
    mine, theirs = weights(tmp_path / "a" / MODEL), weights(tiny_vl_model)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    assert found["random"] == []


def test_a_model_that_is_there_is_kept(tmp_path: Path, tiny_vl_model: Path) -> None:
    first = run_assemble(config(tmp_path / "a", tiny_vl_model))
    assert json.loads((tmp_path / "a" / PARTS).read_text()) == first
    (tmp_path / "a" / MODEL / "model.safetensors").write_bytes(b"untouched")
    assert run_assemble(config(tmp_path / "a", tiny_vl_model)) == first
    assert (tmp_path / "a" / MODEL / "model.safetensors").read_bytes() == b"untouched"


def described(folder: Path, source: Path, **text: int) -> Path:
    """A folder with the source's config.json, its language model changed."""
    tree = json.loads((source / "config.json").read_text())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tree | {"text_config": tree["text_config"] | text}))
    return folder


def test_what_cannot_be_joined_is_one_line(tmp_path: Path, tiny_vl_model: Path) -> None:
    small = described(tmp_path / "small", tiny_vl_model, vocab_size=100)
    wide = described(tmp_path / "wide", tiny_vl_model, intermediate_size=160)
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for change, says in (
        ({"shape": str(small)}, r"tokenizer .* has \d+ tokens and the model of shape .* has a vocab_size of 100"),
        (
            {"shape": str(wide)},
            r"tensor model.layers.0.mlp.down_proj.weight has shape \[64, 128\], the model ",
        ),
        ({"shape": str(tmp_path / "llama")}, "model_type is llama: give one of openpangu_vl or mindvl"),
        ({"shape": str(tmp_path / "nowhere")}, "no config.json that can be read"),
        ({"tokenizer": str(tmp_path / "nowhere")}, "tokenizer .*nowhere: none that can be read"),
        ({"encoder": str(tmp_path / "nowhere")}, "are not in its weights"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            run_assemble(config(tmp_path / "run", tiny_vl_model, **change))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run" / MODEL).exists()
    with pytest.raises(ConfigError, match="min_pixels 9000 exceeds max_pixels 5000"):
        config(tmp_path, tiny_vl_model, min_pixels=9000, max_pixels=5000)


def test_a_half_written_folder_of_weights(tmp_path: Path, tiny_vl_model: Path) -> None:
    """A part whose weights lack a tensor is refused by the tensor's name."""
    tensors = load_file(tiny_vl_model / "model.safetensors")
    tensors.pop("visual.blocks.3.mlp.down_proj.weight")
    (tmp_path / "part").mkdir()
    save_file(tensors, tmp_path / "part" / "model.safetensors")
    with pytest.raises(DataError, match=r"the first is visual.blocks.3.mlp.down_proj.weight"):
        run_assemble(config(tmp_path / "run", tiny_vl_model, encoder=str(tmp_path / "part")))
