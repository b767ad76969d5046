"""A model of parts: config, folders of tower, connector and language model -> **one openPangu-VL or MindVL**."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pretrain.models.checkpoint import holds, load_part
from pretrain.models.configuration import PanguVLConfig
from pretrain.models.mindvl import MindVLForConditionalGeneration
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

HEAD = "lm_head.weight"
ENCODER = ("patch_embed", "blocks")
CONNECTOR = ("final_layernorm", "merger", "vision_projection")
"""Modules of `visual`; which of them a model has its configuration says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The folder that each part comes from; None starts it at random."""

    encoder: Path | None = None
    """Of one of our models, or of Qwen2.5-VL."""
    connector: Path | None = None
    """Of one of our models."""
    language: Path | None = None
    """Of a causal LM of `text_config`'s shape, such as Qwen3, or of one of our models."""


def assemble(
    config: PanguVLConfig, parts: Parts, dtype: torch.dtype = torch.float32
) -> PanguVLForConditionalGeneration:
    """A model of `config`, which must be of a kind of ours. An untied head is the language model's own, or its
    embeddings where it has none.

    Raises:
        DataError: a part has other tensors or shapes than the configuration; names the first, with both shapes.
    """
    kinds = (PanguVLForConditionalGeneration, MindVLForConditionalGeneration)
    (kind,) = (kind for kind in kinds if kind.config_class is type(config))
    model = kind._from_config(config, dtype=dtype)
    if parts.language is not None:
        load_part(model.model, parts.language, "model.")
        if not config.tie_word_embeddings and holds(parts.language, HEAD):
            load_part(model.lm_head, parts.language, "lm_head.")
        elif not config.tie_word_embeddings:
            with torch.no_grad():
                model.lm_head.weight.copy_(model.get_input_embeddings().weight)
    for folder, names in ((parts.encoder, ENCODER), (parts.connector, CONNECTOR)):
        modules = {name: getattr(model.visual, name) for name in names} if folder is not None else {}
        for name, module in modules.items():
            if module is not None:
                load_part(module, folder, f"visual.{name}.")
    return model
