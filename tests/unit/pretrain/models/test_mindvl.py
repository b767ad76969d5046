"""MindVL, assembled: the tower out of a Qwen2.5-VL folder, the language model out of a Qwen3 one, the rest random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

from pangu_rl.errors import DataError
from pretrain.models.assemble import Parts, assemble
from pretrain.models.configuration import MindVLConfig
from pretrain.models.mindvl import MindVLForConditionalGeneration
from tests.unit.pretrain.models.tiny import IDS, pictures, prompt

TOWER = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "fullatt_block_indexes": [1]}
TEXT = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
}


def qwen_vl(folder: Path) -> Qwen2_5_VLForConditionalGeneration:
    text = TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}}
    vision = TOWER | {"out_hidden_size": 64}
    built = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **IDS))
    built.save_pretrained(folder)
    return built


def settings(*, tied: bool = False, **vision: int) -> MindVLConfig:
    text = TEXT | {"model_type": "qwen3", "tie_word_embeddings": tied}
    return MindVLConfig(text_config=text, vision_config=TOWER | vision, **IDS)


@pytest.mark.parametrize("tied", [False, True])
def test_parts_come_from_their_folders(tmp_path: Path, tied: bool) -> None:
    qwen = qwen_vl(tmp_path / "vl")
    language = Qwen3ForCausalLM(Qwen3Config(**TEXT, tie_word_embeddings=tied)).eval()
    language.save_pretrained(tmp_path / "lm")
    mindvl = assemble(settings(tied=tied), Parts(encoder=tmp_path / "vl", language=tmp_path / "lm")).eval()
    ids = torch.randint(3, 89, (2, 9))
    with torch.no_grad():
        assert torch.allclose(mindvl(input_ids=ids).logits, language(input_ids=ids).logits, atol=1e-5)
    theirs = qwen.model.visual.state_dict()
    for name, tensor in mindvl.visual.state_dict().items():
        # Random are the perceptron's matrices alone: biases and norms start alike everywhere.
        random = name.startswith("merger.mlp") and name.endswith("weight")
        assert torch.equal(tensor, theirs[name]) is not random, name
    prompt_ids, grids = prompt(2, (1, 4, 4), 2)
    with torch.no_grad():
        assert mindvl(input_ids=torch.tensor([prompt_ids]), **pictures(grids)).logits.isfinite().all()


def test_an_untied_head_starts_from_tied_embeddings(tmp_path: Path) -> None:
    Qwen3ForCausalLM(Qwen3Config(**TEXT, tie_word_embeddings=True)).save_pretrained(tmp_path)
    mindvl = assemble(settings(), Parts(language=tmp_path))
    assert torch.equal(mindvl.lm_head.weight, mindvl.get_input_embeddings().weight)
    assert mindvl.lm_head.weight is not mindvl.get_input_embeddings().weight


def test_at_random_and_in_bfloat16() -> None:
    mindvl = assemble(settings(), Parts(), torch.bfloat16)
    assert type(mindvl) is MindVLForConditionalGeneration
    assert {parameter.dtype for parameter in mindvl.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


def test_a_tower_of_another_shape(tmp_path: Path) -> None:
    qwen_vl(tmp_path)
    with pytest.raises(DataError, match=r"visual.blocks.0.mlp.down_proj.\w+ has shape .*, the model .* has"):
        assemble(settings(intermediate_size=52), Parts(encoder=tmp_path))
    with pytest.raises(DataError, match=r"tensors of the model are not in its weights, the first is visual.blocks.2"):
        assemble(settings(depth=3), Parts(encoder=tmp_path))


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are not in its weights"):
        assemble(settings(), Parts(encoder=tmp_path))
