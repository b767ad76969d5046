"""What is refused before a run starts: folders without a model, and models that cannot be trained packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GraniteConfig, GraniteForCausalLM, PreTrainedModel

from pangu_rl.config.model import ModelConfig
from pangu_rl.errors import DataError
from pangu_rl.learner.model import PackedCausalLM, check_packing, load_causal_lm
from tests.unit.learner.builders import VOCABULARY, llama, save_llama, tree_pack

PACK = tree_pack([(6, [9, 4]), (11, [5, 7, 2])])


def compare(lm: PreTrainedModel) -> dict[str, float]:
    from pangu_rl.learner.packed_attention import PACKED

    lm.set_attn_implementation(PACKED)
    model = PackedCausalLM(lm, temperature=0.7, chunk=64)
    return check_packing(model, lm, [PACK], temperature=0.7, plain_attention="sdpa")


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_llama_packs(dtype: torch.dtype, limit: float) -> None:
    found = compare(llama().to(dtype))
    assert found["packing_tokens"] == 27
    assert found["packing_diff_mean"] < limit


def test_a_model_that_scales_its_logits_is_refused() -> None:
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        logits_scaling=4.0,
    )
    with pytest.raises(DataError, match="GraniteForCausalLM differ from its own forward by"):
        compare(GraniteForCausalLM(config).eval())


def test_a_model_that_sees_its_neighbours_is_refused() -> None:
    lm = llama()
    # Positions that do not restart stand for any model that takes the pack for one sequence.
    forward = lm.model.forward
    lm.model.forward = lambda position_ids=None, **kwargs: forward(**kwargs)
    with pytest.raises(DataError, match="cannot be trained packed"):
        compare(lm)


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
