"""What is refused before a run starts: folders without a model, and models of which something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Qwen3_5Config

from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import DataError
from pangu_rl.learner.model import load_causal_lm
from tests.unit.learner.builders import save_llama
from tests.unit.learner.families import tiny


def test_a_good_folder_loads_in_the_asked_dtype(tmp_path: Path) -> None:
    lm = load_causal_lm(ModelConfig(path=str(save_llama(tmp_path)), dtype="bfloat16"))
    assert lm.dtype is torch.bfloat16
    assert not lm.training


def test_folders_without_a_model_are_refused_in_one_line(tmp_path: Path) -> None:
    def complaint(path: Path, dtype: str = "float32") -> str:
        with pytest.raises(DataError) as caught:
            load_causal_lm(ModelConfig(path=str(path), dtype=dtype))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in complaint(tmp_path / "missing")
    assert "no config.json in it" in complaint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert "no weights" in complaint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a safetensors file")
    assert "not a causal LM that transformers loads" in complaint(tmp_path)
    assert "model.dtype is 'float16'" in complaint(save_llama(tmp_path / "good"), "float16")


def test_weights_without_a_tensor_are_refused_by_its_name(tmp_path: Path) -> None:
    file = save_llama(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 tensors .* first model.layers.1.mlp.up_proj.weight"):
        load_causal_lm(ModelConfig(path=str(tmp_path)))


def test_a_model_that_chooses_attention_from_its_own_table_is_refused_by_that(tmp_path: Path) -> None:
    tiny("gptj").save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"chooses attention from a table of its own, .* cannot be trained packed"):
        load_causal_lm(ModelConfig(path=str(tmp_path)))


def test_a_folder_with_a_tower_that_transformers_leaves_out_is_refused(tmp_path: Path) -> None:
    """A folder of Qwen 3.5 with pictures: transformers' causal LM of it is the language model alone."""
    text = tiny("qwen3_5_text")
    text.save_pretrained(tmp_path)
    Qwen3_5Config(text_config=text.config.to_dict(), vision_config={"depth": 2}).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="has a vision_config, but transformers loads Qwen3_5ForCausalLM"):
        load_causal_lm(ModelConfig(path=str(tmp_path)))


def test_a_tower_of_another_family_is_one(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=tiny("gemma3_text").config.to_dict(),
        vision_config=small | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert type(load_causal_lm(ModelConfig(path=str(tmp_path)))).__name__ == "Gemma3ForConditionalGeneration"
