"""The start of the miniature pre-training: openPangu-VL of four million parameters, all of them untrained.

A tower of four blocks, a connector, a Llama of four layers, and a vocabulary of 4,096 that is learnt from the
mini-corpus, in which each digit and each grounding tag is a token. SmolLM2's vocabulary of 49,152 alone would take
most of the time that a step has on two cores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_curation.corpus import build
from data_curation.sources import smollm2
from data_curation.sources.folders import whole_folder
from data_curation.sources.tiny_pangu_vl import SEED, save_folder, token_ids, vision_tokenizer
from pangu_rl.config.paths import resolve_path
from pangu_rl.records import GROUNDING_TAGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

HOME = "cache://models/mini-pangu-vl"
VOCABULARY = 4096
CONTEXT = 8192
TEXT = {
    "model_type": "llama",
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 576,
    "max_position_embeddings": CONTEXT,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
VISION = {
    "depth": 4,
    "hidden_size": 144,
    "num_heads": 3,
    "intermediate_size": 432,
    "fullatt_block_indexes": [1, 3],
    "out_hidden_size": 192,
}
MIN_PIXELS, MAX_PIXELS = 84 * 84, 168 * 168
"""9 to 36 tokens."""


def prepare(directory: Path) -> Path:
    """Make the model in `directory`, and the mini-corpus if it is not there; kept if already there."""
    if (directory / "model.safetensors").is_file():
        return directory
    import torch

    corpus = build.prepare(resolve_path(build.HOME))
    tokenizer = learn_tokenizer(_texts(corpus / "sft.jsonl"))
    with whole_folder(directory) as folder:
        model = assemble(tokenizer).to(torch.bfloat16)
        save_folder(folder, model, tokenizer, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    return directory


def assemble(tokenizer: PreTrainedTokenizerBase) -> PanguVLForConditionalGeneration:
    """A random model for the tokenizer, in fp32; the same every time."""
    import torch

    from pretrain.models.configuration import PanguVLConfig
    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

    marks = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(SEED)
    return PanguVLForConditionalGeneration(
        PanguVLConfig(
            text_config=TEXT | {"vocab_size": len(tokenizer), "tie_word_embeddings": True} | marks,
            vision_config=VISION,
            tie_word_embeddings=True,
            **token_ids(tokenizer),
        )
    )


def learn_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """SmolLM2's kind of tokenizer with its special tokens and our template, its merges learnt from `texts`."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    source = vision_tokenizer(smollm2.prepare(resolve_path(smollm2.HOME)))
    source.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    learnt = source.train_new_from_iterator(texts, VOCABULARY - len(GROUNDING_TAGS))
    learnt.add_tokens(list(GROUNDING_TAGS))
    learnt.chat_template = source.chat_template
    return learnt


def _texts(path: Path) -> Iterator[str]:
    """What is said in the rows, without the grounding tags, which are tokens of their own."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            for message in json.loads(line)["messages"]:
                parts = message["content"]
                said = parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)
                for tag in GROUNDING_TAGS:
                    said = said.replace(tag, "")
                yield said
