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
