"""A model folder as the data layer reads it: tokenizer with vision tokens, template, sizes; its weights are empty."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_rl.config.paths import resolve_path
from tests.builders import SMOLLM2

SPELLINGS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
FIRST_ID = 49152
"""The vocabulary of SmolLM2 ends here; the vision tokens follow in the order of `SPELLINGS`."""
START, END, PAD, VIDEO = range(FIRST_ID, FIRST_ID + 4)
TEMPLATE = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}\
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% elif part.type == 'video' %}\
<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def build_vl_folder(directory: Path) -> Path:
    """Pictures are shown with 4 to 64 tokens, frames of videos with 4, up to 8 of them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve_path(SMOLLM2))
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPELLINGS.values())})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    ids = {key: tokenizer.convert_tokens_to_ids(spelling) for key, spelling in SPELLINGS.items()}
    assert list(ids.values()) == [START, END, PAD, VIDEO]
    text = {"model_type": "llama", "max_position_embeddings": 2048}
    config = {"model_type": "openpangu_vl", "text_config": text, **ids}
    (directory / "config.json").write_text(json.dumps(config))
    frame = {"any_res_min_frame_pixels": 56 * 56, "any_res_max_frame_pixels": 56 * 56}
    limits = {"min_pixels": 56 * 56, "max_pixels": 224 * 224, "any_res_max_video_total_pixels": 8 * 56 * 56, **frame}
    (directory / "preprocessor_config.json").write_text(json.dumps(limits))
    (directory / "model.safetensors").touch()
    return directory


def draw(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A picture of noise; its format follows the suffix."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
