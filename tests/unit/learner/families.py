"""Tiny random models of transformers' families: two layers, 64 wide, every matrix of deviation 0.2."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

COMMON = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 48,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "decoder_sparse_step": 1,
    "first_k_dense_replace": 0,
}
LATENT = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
"""Keys of 24, values of 16."""
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 8, "mamba_n_groups": 1}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            *("qwen2_moe", "qwen3_moe", "mixtral", "glm4_moe", "olmoe", "hunyuan_v1_moe", "ernie4_5_moe", "gpt_oss"),
            *("dots1", "phimoe", "minimax_m2", "solar_open", "afmoe", "flex_olmo", "exaone_moe", "llama4_text"),
        ),
        EXPERTS,
    ),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "longcat_flash", "youtu"), EXPERTS | LATENT),
    **dict.fromkeys(("gptj", "codegen"), GPT | {"rotary_dim": 8}),
    "gpt2": GPT,
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "gpt_neo": {"attention_types": [[["global"], 2]], "num_layers": 2, "num_heads": 4},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 4.0},
    "granitemoe": EXPERTS | {"logits_scaling": 8.0},
    "granitemoeshared": EXPERTS | {"logits_scaling": 8.0, "shared_intermediate_size": 32},
    "hyperclovax": {"logits_scaling": 0.25},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.0625},
    "minicpm3": LATENT | {"dim_model_base": 16, "head_dim": None},
    "gemma2": {"final_logit_softcapping": 5.0, "attn_logit_softcapping": None},
    "gemma3_text": {"final_logit_softcapping": 5.0},
    "gemma3n_text": {
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 97,
        "num_kv_shared_layers": 0,
        "intermediate_size": [96, 96],
        "layer_types": ["full_attention"] * 2,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0, 0.0],
        "final_logit_softcapping": 5.0,
    },
    "gemma4_text": {"vocab_size_per_layer_input": 97, "final_logit_softcapping": 5.0},
    "nanochat": {"final_logit_softcapping": 5.0},
    "bloom": {"n_head": 4, "n_layer": 2},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 2},
    "falcon_h1": MAMBA | {"mamba_d_ssm": 64, "mamba_d_head": 16, "lm_head_multiplier": 0.5},
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "granitemoehybrid": EXPERTS | MAMBA | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 32},
    "jamba": {
        **EXPERTS,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "mlp"],
        "num_hidden_layers": 3,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "expand": 1,
        "use_mamba_kernels": False,
    },
    "qwen3_5_text": LINEAR,
    "qwen3_next": EXPERTS | LINEAR,
    "olmo_hybrid": LINEAR,
    "minimax": EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_ff_dim": 96},
    "lfm2_moe": EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "recurrent_gemma": {"lru_width": 64, "attention_window_size": 64, "block_types": ["recurrent", "attention"]},
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1},
}
"""Of each family, beside and above COMMON."""


def config_of(family: str, **changes: Any) -> PreTrainedConfig:
    return CONFIG_MAPPING[family](**COMMON | OPTIONS.get(family, {}) | changes)


def parameters_of(family: str) -> int:
    """How many it would have: one whose keys have other names is as large as its authors made it."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(family)).num_parameters()


def tiny(family: str, dtype: torch.dtype = torch.float32, attention: str = "eager", **changes: Any) -> PreTrainedModel:
    """The causal LM of the `model_type` `family`, in eval mode; `changes` go before what stands here."""
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config_of(family, **changes), attn_implementation=attention)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
            elif "norm" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return lm.eval().to(dtype)
