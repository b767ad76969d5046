"""A miniature of openPangu-VL: a small openPangu-ViT and connector, untrained, before the first layers of SmolLM2.

Everything is as in the real model but the size: hierarchical connector, interleaved 3D rotary positions, four vision
tokens, a token for each grounding tag, a processor that shows pictures at their native resolution. The folder is an
ordinary Hugging Face one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_curation.sources import smollm2
from data_curation.sources.folders import whole_folder
from pangu_rl.config.paths import resolve_path
from pangu_rl.records import GROUNDING_TAGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

SEED = 20261122
LAYERS = 4
"""Of SmolLM2's 30: enough for a question of ten words, and a seventh of the time."""
VISION = {
    "depth": 4,
    "hidden_size": 256,
    "num_heads": 4,
    "intermediate_size": 1024,
    "fullatt_block_indexes": [1, 3],
    "out_hidden_size": 576,
}
MIN_PIXELS, MAX_PIXELS = 112 * 112, 448 * 448
"""16 to 256 tokens: the 64-pixel pictures of easy-vqa are shown at 112."""

VISION_TOKENS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
"""Name of the id in the configuration -> spelling in the tokenizer."""
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif part['type'] == 'video' -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}
{{ part['text'] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def prepare(directory: Path) -> Path:
    """Assemble the model in `directory` (config, tokenizer, processor, safetensors in bf16); kept if already there.

    One that an earlier version made, without tokens for the grounding tags, is made anew.
    """
    if (directory / "model.safetensors").is_file() and GROUNDING_TAGS[0] in _tokenizer_text(directory):
        return directory
    import torch

    source = smollm2.prepare(resolve_path(smollm2.HOME))
    with whole_folder(directory) as folder:
        tokenizer = vision_tokenizer(source)
        save_folder(folder, assemble(source, tokenizer).to(torch.bfloat16), tokenizer)
    return directory


def assemble(source: Path, tokenizer: PreTrainedTokenizerBase) -> PanguVLForConditionalGeneration:
    """A random tower and connector; the embeddings, first layers and last norm of the Llama in `source`, in fp32."""
    import torch
    from transformers import AutoModel

    from pretrain.models.configuration import PanguVLConfig
    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

    text = AutoModel.from_pretrained(source, dtype=torch.float32, num_hidden_layers=LAYERS, trust_remote_code=False)
    text.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = text.embed_tokens.weight.data
    # The rows of the new tokens start at the mean of the others: what no token has been taught yet.
    added = len(VISION_TOKENS) + len(GROUNDING_TAGS)
    rows[-added:] = rows[:-added].mean(0)
    torch.manual_seed(SEED)
    model = PanguVLForConditionalGeneration(
        PanguVLConfig(
            text_config=text.config.to_dict(),
            vision_config=VISION,
            tie_word_embeddings=True,
            **token_ids(tokenizer),
        )
    )
    model.model.load_state_dict(text.state_dict())
    model.tie_weights()
    return model


def vision_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `source` with four vision tokens more, a token for each grounding tag, and a chat template.

    The template takes text, pictures and videos, and adds no system message of its own. The tags are ordinary tokens,
    not special ones, so that decoding an answer keeps them.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    tokenizer.add_special_tokens({"additional_special_tokens": list(VISION_TOKENS.values())})
    tokenizer.add_tokens(list(GROUNDING_TAGS))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The configuration's names of the vision tokens -> their ids."""
    return {name: tokenizer.convert_tokens_to_ids(spelling) for name, spelling in VISION_TOKENS.items()}


def _tokenizer_text(directory: Path) -> str:
    return (directory / "tokenizer.json").read_text(encoding="utf-8")


def save_folder(
    directory: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """Model, tokenizer, template and processor as one Hugging Face folder."""
    from pretrain.processing.processor import PanguVLImageProcessor, PanguVLProcessor

    model.save_pretrained(directory)
    PanguVLProcessor(PanguVLImageProcessor(min_pixels, max_pixels), tokenizer).save_pretrained(directory)
    return directory
