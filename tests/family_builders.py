"""Tiny random models of transformers' vision-language families, as ordinary folders with tokenizer and processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pangu_rl.config.paths import resolve_path
from tests.builders import SMOLLM2

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "initializer_range": 0.1,
}
TOWER = {"depth": 4, "num_heads": 4, "initializer_range": 0.1}
SQUARES = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "initializer_range": 0.1,
}
ROPE = {"rope_type": "default", "rope_theta": 1e6}
KINDS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {
        "text": {"rope_parameters": ROPE | {"mrope_section": [4, 6, 6]}},
        "vision": TOWER | {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2},
    },
    "qwen2_5_vl": {
        "text": {"rope_parameters": ROPE | {"mrope_section": [4, 6, 6]}},
        "vision": TOWER
        | {"hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 64, "fullatt_block_indexes": [1, 3]},
    },
    "qwen3_vl": {
        "text": {"head_dim": 32, "rope_parameters": ROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}},
        "vision": TOWER
        | {
            "hidden_size": 64,
            "intermediate_size": 96,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 2],
        },
    },
    "internvl": {
        "text": {"model_type": "qwen2"},
        "vision": SQUARES | {"image_size": 56, "patch_size": 14, "norm_type": "rms_norm", "use_qk_norm": True},
    },
    "llava": {
        "text": {"model_type": "llama"},
        "vision": SQUARES | {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14},
    },
}
"""`model_type` -> what its configuration classes are given."""
SETTINGS: dict[str, dict[str, Any]] = {
    "internvl": {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": 56, "width": 56},
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": 4,
    },
    "llava": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 56},
        "crop_size": {"height": 56, "width": 56},
        "do_center_crop": True,
    },
}
"""`model_type` -> what its image processor is saved with."""
SHARED = ("do_resize", "do_rescale", "do_normalize", "resample", "rescale_factor", "image_mean", "image_std")


def build_tiny_family(directory: Path, kind: str, *, dtype: str = "float32", tied: bool = True) -> Path:
    """A random model of hidden size 64 with three layers and a tower of four blocks; pictures of 4 to 64 tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

    from data_curation.sources.tiny_pangu_vl import token_ids, vision_tokenizer

    tokenizer = vision_tokenizer(resolve_path(SMOLLM2))
    tokenizer.add_tokens(["<img>", "</img>"], special_tokens=True)
    ends = AutoTokenizer.from_pretrained(resolve_path(SMOLLM2))
    special = {"bos_token_id": ends.bos_token_id, "eos_token_id": ends.eos_token_id, "pad_token_id": ends.pad_token_id}
    config = AutoConfig.for_model(
        kind,
        text_config=TEXT | special | {"vocab_size": len(tokenizer)} | KINDS[kind]["text"],
        vision_config=KINDS[kind]["vision"],
        tie_word_embeddings=tied,
        **token_ids(tokenizer),
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(**special)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    save_processor(directory, kind)
    return directory


def save_processor(directory: Path, kind: str, *, least: int = 4, most: int = 64) -> None:
    """Sizes of `least` to `most` tokens, with what else such a file says."""
    patch = 16 if kind == "qwen3_vl" else 14
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.48145466, 0.4578275, 0.40821073] if patch == 14 else [0.5, 0.5, 0.5],
        "image_std": [0.26862954, 0.26130258, 0.27577711] if patch == 14 else [0.5, 0.5, 0.5],
        "patch_size": patch,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": least * (2 * patch) ** 2, "longest_edge": most * (2 * patch) ** 2},
    }
    if kind in SETTINGS:
        settings = {name: settings[name] for name in SHARED} | SETTINGS[kind]
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
