"""Small real things for tests: a two-layer Llama with SmolLM2's tokenizer, and prompts."""

from __future__ import annotations

from pathlib import Path

from pangu_rl.config.paths import resolve_path

SMOLLM2 = "cache://models/smollm2-135m-instruct"


def build_tiny_model(directory: Path, *, layers: int = 2, seed: int = 0, dtype: str = "bfloat16") -> Path:
    """Save a random Llama (hidden 64, 2 heads of 32, vocabulary of SmolLM2) with tokenizer into `directory`."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(resolve_path(SMOLLM2))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build_tiny_family(directory: Path, family: str) -> Path:
    """Save the tiny random model of a `model_type` of transformers, float32, with SmolLM2's tokenizer."""
    from transformers import AutoTokenizer

    from tests.unit.learner.families import tiny

    tokenizer = AutoTokenizer.from_pretrained(resolve_path(SMOLLM2))
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    size = len(tokenizer)
    # vLLM on a CPU takes heads of 32 and experts of 64, and no smaller ones.
    sizes = {"head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "moe_intermediate_size": 64}
    tiny(family, vocab_size=size, vocab_size_per_layer_input=size, **sizes, **ends).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build_tiny_mixture(directory: Path, *, dtype: str = "float32") -> Path:
    """Save a random Qwen3-MoE (hidden 64, 2 layers of 4 experts, 2 of them for a token) with SmolLM2's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(resolve_path(SMOLLM2))
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        head_dim=32,
        intermediate_size=128,
        moe_intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    Qwen3MoeForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build_tiny_vl_model(directory: Path, *, layers: int = 2, dtype: str = "bfloat16", text: str = "llama") -> Path:
    """Save a random PanguVL (tower of 4 blocks of 64, language model of hidden 64) with tokenizer and processor.

    `text` is the language model's `model_type`: `llama` makes it openPangu-VL, `qwen3` a MindVL.
    """
    import torch
    from transformers import AutoTokenizer

    from data_curation.sources.tiny_pangu_vl import save_folder, token_ids, vision_tokenizer
    from pretrain.models.configuration import MindVLConfig, PanguVLConfig
    from pretrain.models.mindvl import MindVLForConditionalGeneration
    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

    tokenizer = vision_tokenizer(resolve_path(SMOLLM2))
    ends = AutoTokenizer.from_pretrained(resolve_path(SMOLLM2))
    torch.manual_seed(0)
    vision = {"depth": 4, "hidden_size": 64, "num_heads": 4, "intermediate_size": 96, "out_hidden_size": 48}
    shared = {
        "text_config": {
            "model_type": text,
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "head_dim": 32,
            "intermediate_size": 128,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "bos_token_id": ends.bos_token_id,
            "eos_token_id": ends.eos_token_id,
            "pad_token_id": ends.pad_token_id,
            "initializer_range": 0.1,
        },
        "vision_config": vision | {"fullatt_block_indexes": [1, 3], "initializer_range": 0.1},
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
        **token_ids(tokenizer),
    }
    if text == "llama":
        model = PanguVLForConditionalGeneration(PanguVLConfig(**shared))
    else:
        model = MindVLForConditionalGeneration(MindVLConfig(**shared))
    return save_folder(directory, model.to(getattr(torch, dtype)), tokenizer, min_pixels=56 * 56, max_pixels=448 * 448)
