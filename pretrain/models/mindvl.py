"""MindVL: the tower of Qwen2.5-VL, a perceptron over 2x2 patches, Qwen3; assembled from parts and trained further."""

from __future__ import annotations

from pathlib import Path

import torch

from pretrain.models.checkpoint import holds, load_part
from pretrain.models.configuration import MindVLConfig
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

HEAD = "lm_head.weight"


class MindVLForConditionalGeneration(PanguVLForConditionalGeneration):
    """The same tree of submodules; the configuration makes the difference."""

    config_class = MindVLConfig


def assemble_mindvl(
    config: MindVLConfig,
    *,
    tower: Path | None = None,
    language_model: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> MindVLForConditionalGeneration:
    """A MindVL of `config`: the parts that are given come from their checkpoints, all else is random.

    tower: folder of a Qwen2.5-VL model, of which patch embedding and blocks are taken; the perceptron starts at random,
    as in the paper. language_model: folder of a causal LM of `config.text_config`'s shape, such as Qwen3; one without a
    head of its own gives its embeddings to an untied head.

    Raises:
        DataError: a part has other tensors or shapes than the configuration; names the first, with both shapes.
    """
    model = MindVLForConditionalGeneration._from_config(config, dtype=dtype)
    if language_model is not None:
        load_part(model.model, language_model, "model.")
        if not config.tie_word_embeddings and holds(language_model, HEAD):
            load_part(model.lm_head, language_model, "lm_head.")
        elif not config.tie_word_embeddings:
            with torch.no_grad():
                model.lm_head.weight.copy_(model.get_input_embeddings().weight)
    if tower is not None:
        for name in ("patch_embed", "blocks"):
            load_part(getattr(model.visual, name), tower, f"visual.{name}.")
    return model
