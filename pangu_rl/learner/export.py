"""Weights -> **a model folder in Hugging Face layout** -> whoever loads it, vLLM included."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

COMPANIONS = (
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""Files beside config and weights that make a folder one that can be prompted: tokenizer, template, processor."""


def write_model(directory: Path, lm: PreTrainedModel, state: Mapping[str, Tensor], source: Path) -> None:
    """Write `lm` with the weights `state` into `directory`, and the tokenizer and processor of the folder `source`."""
    directory.mkdir(parents=True, exist_ok=True)
    lm.save_pretrained(directory, state_dict=dict(state))
    for pattern in COMPANIONS:
        for file in source.glob(pattern):
            shutil.copy(file, directory)
