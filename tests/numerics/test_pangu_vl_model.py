"""The whole model: counts of the released configuration, text against Llama, pictures, MindVL's gate."""

from __future__ import annotations

import json

import numpy as np
import torch
from transformers import LlamaForCausalLM, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pretrain.models.configuration import MindVLConfig, PanguVLConfig
from pretrain.models.mindvl import MindVLForConditionalGeneration
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from tests.contracts.source_tree import ROOT
from tests.unit.learner.vl_builders import IMAGE, group, pangu_vl, picture


def released_model() -> PanguVLForConditionalGeneration:
    config = PanguVLConfig(**json.loads((ROOT / "configs/models/openpangu_vl_7b/config.json").read_text()))
    with torch.device("meta"):
        return PanguVLForConditionalGeneration(config)


def prompt(*pictures):
    drawn = group("prompt", pictures, [1])
    pixels = torch.from_numpy(np.concatenate([shown.patches for shown in pictures]))
    grids = torch.tensor([shown.grid for shown in pictures])
    return torch.tensor([drawn.prompt_token_ids]), {"pixel_values": pixels, "image_grid_thw": grids}


def test_counts_and_names_of_the_released_model() -> None:
    shapes = {name: tuple(p.shape) for name, p in released_model().named_parameters()}
    connector = ("visual.merger", "visual.vision_projection")
    count = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sum(count.values()) == 8_780_756_480
    assert sum(n for k, n in count.items() if k.startswith("visual.") and not k.startswith(connector)) == 615_624_192
    layer = "model.layers.33"
    expected = {
        "model.embed_tokens.weight": (153376, 4096),
        "lm_head.weight": (153376, 4096),
        "model.norm.weight": (4096,),
        f"{layer}.self_attn.q_proj.weight": (4096, 4096),
        f"{layer}.self_attn.q_proj.bias": (4096,),
        f"{layer}.self_attn.k_proj.weight": (1024, 4096),
        f"{layer}.self_attn.k_proj.bias": (1024,),
        f"{layer}.self_attn.v_proj.bias": (1024,),
        f"{layer}.self_attn.o_proj.weight": (4096, 4096),
        f"{layer}.self_attn.o_proj.bias": (4096,),
        f"{layer}.mlp.gate_proj.weight": (12800, 4096),
        f"{layer}.mlp.up_proj.weight": (12800, 4096),
        f"{layer}.mlp.down_proj.weight": (4096, 12800),
        f"{layer}.input_layernorm.weight": (4096,),
        f"{layer}.post_attention_layernorm.weight": (4096,),
        "visual.patch_embed.proj.weight": (1536, 3, 2, 14, 14),
        "visual.merger.1.mlp.2.weight": (3584, 6144),
        "visual.vision_projection.fc1.weight": (4096, 3584),
    }
    assert expected.items() <= shapes.items()
    assert not [name for name in shapes if "mlp" in name and name.startswith("model.") and name.endswith("bias")]


def test_text_logits_equal_llamas() -> None:
    """The backbone is that Llama with our rotary embedding in it; only roundings of its float32 angles may differ."""
    model = pangu_vl(tied=False)
    llama = LlamaForCausalLM(model.config.text_config).eval()
    llama.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("visual.")})
    ids = torch.randint(3, 89, (2, 17))
    with torch.no_grad():
        assert torch.allclose(model(input_ids=ids).logits, llama(input_ids=ids).logits, atol=1e-4, rtol=0)


def test_pictures_reach_the_logits_and_only_what_follows_them() -> None:
    model = pangu_vl()
    ids, pictures = prompt(picture("a", 2, 3))
    first = ids[0].tolist().index(IMAGE)
    with torch.no_grad():
        seen = model(input_ids=ids, **pictures).logits
        other = model(input_ids=ids, **pictures | {"pixel_values": 255 - pictures["pixel_values"]}).logits
    assert torch.equal(seen[:, :first], other[:, :first])
    assert not torch.allclose(seen[:, -1], other[:, -1], atol=1e-2)


def test_mindvl_is_within_the_papers_gate_of_qwen() -> None:
    """MAE and MRE below 5e-3 is the paper's gate; the same float32 sums in another order stay below 1e-4."""
    torch.manual_seed(0)
    vision = {"depth": 4, "hidden_size": 64, "num_heads": 4, "intermediate_size": 80, "fullatt_block_indexes": [1, 3]}
    text = {
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
    }
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = dict(zip(names, (90, 91, 92, 93), strict=True))
    qwen = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"out_hidden_size": 64}, **ids)
    ).eval()
    config = MindVLConfig(
        text_config=text
        | {"model_type": "qwen2", "rope_parameters": text["rope_parameters"] | {"mrope_interleaved": False}},
        vision_config=vision,
        **ids,
    )
    ours = MindVLForConditionalGeneration(config).eval()
    weights = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): tensor
        for name, tensor in qwen.state_dict().items()
    }
    ours.load_state_dict(weights)
    sequence, pictures = prompt(picture("a", 3, 5), picture("b", 2, 2))
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (config.vision_config.image_mean, config.vision_config.image_std)
    )
    pixels = ((pictures["pixel_values"].view(-1, 3, 1, 196) / 255 - mean) / std).expand(-1, -1, 2, -1).flatten(1)
    with torch.no_grad():
        found = ours(input_ids=sequence, **pictures).logits
        expected = qwen(
            input_ids=sequence,
            pixel_values=pixels,
            image_grid_thw=pictures["image_grid_thw"],
            mm_token_type_ids=(sequence == IMAGE).int(),
        ).logits
    error = (found - expected).abs()
    assert error.mean() < 5e-3 and (error / expected.abs().clamp_min(1e-3)).mean() < 5e-3
    assert error.max() < 1e-4
