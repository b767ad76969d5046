"""A model of parts: each part is its folder's, what is null is random, and the folder is one that stages train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.load import checked
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.model import load_causal_lm
from pretrain.families import family_of
from pretrain.families.pangu import Pangu
from pretrain.processing.resize import PixelLimits, read_limits
from pretrain.train.run_assemble import MODEL, PARTS, run_assemble
from tests.builders import build_tiny_vl_model

PANGU = Pangu({}, Path())


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
    for name, tensor in mine.items():
        # Norms and biases start alike everywhere.
        random = PANGU.part(name) == "connector" and tensor.dim() > 1
        assert torch.equal(tensor, theirs[name]) is not random, name
    assert found["random"] == ["connector"]
    assert found["parameters"]["connector"] == sum(t.numel() for n, t in mine.items() if PANGU.part(n) == "connector")
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
    """The model that is there is kept, and is not one of other settings."""
    asked = config(tmp_path / "a", tiny_vl_model, connector=str(tiny_vl_model))
    found = run_assemble(asked)
    assert run_assemble(asked) == found
    with pytest.raises(ConfigError, match=r"was begun with connector '.*', now it is None: set it back, or another"):
        run_assemble(config(tmp_path / "a", tiny_vl_model))
    mine, theirs = weights(tmp_path / "a" / MODEL), weights(tiny_vl_model)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    assert found["random"] == []


def test_parts_out_of_run_directories(tmp_path: Path, tiny_vl_model: Path) -> None:
    """The tower and connector of a training run's newest checkpoint, the rest of an assembled run."""
    run_assemble(config(tmp_path / "before", tiny_vl_model, connector=str(tiny_vl_model)))
    store = CheckpointStore(tmp_path / "trained", 1)
    shutil.copytree(tiny_vl_model, store.begin(3) / "hf")
    store.commit(3, {}, {})
    (tmp_path / "trained" / "config.yaml").write_text("x: 1")
    trained, before = str(tmp_path / "trained"), str(tmp_path / "before")
    change = {"encoder": trained, "connector": trained, "language": before, "shape": before, "tokenizer": before}
    found = run_assemble(config(tmp_path / "a", tiny_vl_model, **change, processor=trained))
    mine, theirs = weights(tmp_path / "a" / MODEL), weights(tiny_vl_model)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    assert found["random"] == []
    assert read_limits(tmp_path / "a" / MODEL) == read_limits(tiny_vl_model) != read_limits(tmp_path / "before" / MODEL)


def test_a_mindvl_of_a_qwen2_5_vl_tower_and_a_text_model(tmp_path: Path) -> None:
    """The tower of transformers' own class in its newer names, the language model of a text folder."""
    source = build_tiny_vl_model(tmp_path / "mindvl", text="qwen3", dtype="float32")
    settings = AutoConfig.from_pretrained(source)
    tensors = load_file(source / "model.safetensors")
    (tmp_path / "tower").mkdir()
    tower = {f"model.{name}": 2 * tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    save_file(tower, tmp_path / "tower" / "model.safetensors")
    torch.manual_seed(3)
    text = AutoModelForCausalLM.from_config(settings.text_config)
    text.save_pretrained(tmp_path / "text")
    parts = {"encoder": str(tmp_path / "tower"), "language": str(tmp_path / "text"), "dtype": "float32"}
    found = run_assemble(config(tmp_path / "a", source, **parts))
    mine, words = weights(tmp_path / "a" / MODEL), text.state_dict()
    assert found["random"] == ["connector"]
    for name, tensor in mine.items():
        if PANGU.part(name) == "encoder":
            assert torch.equal(tensor, 2 * tensors[name]), name
        elif PANGU.part(name) == "language":
            assert torch.equal(tensor, words[name]), name


def test_the_switches_of_the_ablations(tmp_path: Path, tiny_vl_model: Path) -> None:
    """Frames of one size, 2D places, and numbers that are one token each, for which a random vocabulary grows."""
    switches = {
        "frames": {"total_pixels": 31360, "frame_min_pixels": 3136, "frame_max_pixels": 3136},
        "rope": {"sections": [0, 8, 8], "interleaved": True},
        "numbers": "whole",
        "language": None,
    }
    run_assemble(config(tmp_path / "a", tiny_vl_model, **switches))
    folder = tmp_path / "a" / MODEL
    settings, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert settings.text_config.rope_parameters["mrope_section"] == [0, 8, 8]
    assert len(tokenizer("(012,999)")["input_ids"]) == 5
    assert settings.text_config.vocab_size == len(tokenizer) == len(weights(folder)["model.embed_tokens.weight"])
    assert family_of(model_config(folder), folder).video_budget.limits(1) == PixelLimits(3136, 3136)
    with pytest.raises(DataError, match="has a vocab_size of"):
        run_assemble(config(tmp_path / "b", tiny_vl_model, numbers="whole"))
    with pytest.raises(ConfigError, match=r"frame_min_pixels 3136 exceeds frame_max_pixels 1000"):
        config(tmp_path / "c", tiny_vl_model, frames={"frame_min_pixels": 3136, "frame_max_pixels": 1000})


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
