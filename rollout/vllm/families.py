"""transformers' vision-language models in vLLM: **transformers' own tower, vLLM's text model** of the same kind.

vLLM has classes of its own for them, which need torchvision. Here pictures come cut as the learner sees them, and the
tower is the very module that trains.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import MultiModalEmbeddings
from vllm.model_executor.models.utils import WeightsMapper, init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY

from pretrain.families import family_of
from pretrain.families.family import Family
from rollout.vllm.multimodal import DummyPictures, PictureProcessor, ProcessingInfo
from rollout.vllm.served import ServedModel


@MULTIMODAL_REGISTRY.register_processor(PictureProcessor, info=ProcessingInfo, dummy_inputs=DummyPictures)
class VllmFamily(ServedModel):
    """A model of any family of `pretrain.families` that names vLLM's text model."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        model = vllm_config.model_config
        self.config = model.hf_config
        self.family = family_of(self.config.to_dict(), Path(model.model))
        text = self.config.get_text_config()
        with self._mark_tower_model(vllm_config, set(self.family.modalities)):
            self.seeing = _without_text(self.config, self.family, model.dtype)
        with self._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config,
                prefix=maybe_prefix(prefix, "language_model"),
                hf_config=text,
                architectures=[self.family.text_model] if self.family.text_model else None,
            )
        self.hf_to_vllm_mapper = WeightsMapper(
            orig_to_new_prefix={name: _place(learned) for name, learned in self.family.renamed.items()}
        )
        self.shapes = self._shapes()
        self.deeper = Deeper(self.language_model, self.family.deeper_layers, text.hidden_size, vllm_config)
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            lm = AutoModelForImageTextToText.from_config(self.config)
        named = dict(lm.named_parameters(remove_duplicate=False))
        places = self.hf_to_vllm_mapper.apply_list(list(named))
        return {place: tuple(parameter.shape) for place, parameter in zip(places, named.values(), strict=True)}

    def encode(self, patches: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        """[K, E (1 + deeper layers)]"""
        return torch.cat(self.family.encode(self.seeing, patches, grids), -1)

    def embed_input_ids(
        self,
        input_ids: torch.Tensor,
        multimodal_embeddings: MultiModalEmbeddings | None = None,
        *,
        is_multimodal: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embeddings [T, E] of a step's tokens, which are those of the next forward pass."""
        if self.deeper.layers and multimodal_embeddings is not None and len(multimodal_embeddings):
            first, *deeper = torch.cat(list(multimodal_embeddings)).chunk(1 + self.deeper.layers, -1)
            self.deeper.take(deeper, is_multimodal)
            multimodal_embeddings = [first]
        else:
            self.deeper.forget()
        return super().embed_input_ids(input_ids, multimodal_embeddings, is_multimodal=is_multimodal)


class Deeper:
    """Features that are added to the stream behind the first layers of a text model (DeepStack), in buffers that stay
    where they are, as captured graphs need them to."""

    def __init__(self, text: nn.Module, layers: int, width: int, vllm_config: VllmConfig) -> None:
        self.layers = layers
        self._used = 0
        tokens = vllm_config.scheduler_config.max_num_batched_tokens
        self._added = [torch.zeros(tokens, width, dtype=vllm_config.model_config.dtype) for _ in range(layers)]
        for layer, added in zip(text.model.layers, self._added, strict=False):
            layer.forward = partial(_and_add, layer.forward, added)

    def take(self, features: list[torch.Tensor], places: torch.Tensor) -> None:
        """`features` [K, E] of each layer stand at the K `places` that are true of bool [T]."""
        self.forget()
        self._used = len(places)
        for added, own in zip(self._added, features, strict=True):
            added[: self._used][places.to(added.device)] = own.to(added.dtype)

    def forget(self) -> None:
        for added in self._added if self._used else ():
            added[: self._used].zero_()
        self._used = 0


def _and_add(
    forward: Callable[..., Any], added: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    hidden, residual = forward(*args, **kwargs)
    return hidden + added[: hidden.shape[0]], residual


def _without_text(config: PreTrainedConfig, family: Family, dtype: torch.dtype) -> PreTrainedModel:
    """transformers' model with tower and connector, and nothing to speak of behind them."""
    small = deepcopy(config)
    text = small.get_text_config()
    text.num_hidden_layers, text.vocab_size, text.pad_token_id = 0, 1, None
    if getattr(text, "layer_types", None):
        text.layer_types = []
    attention = {"vision_config": family.attention}
    lm = AutoModelForImageTextToText.from_config(small, dtype=dtype, attn_implementation=attention)
    del lm.model.language_model, lm.lm_head
    family.prepare(lm)
    return lm.eval().requires_grad_(False)


def _place(name: str) -> str:
    """How a name of the learner begins -> how its place in `VllmFamily` does."""
    text = {"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head."}
    return text.get(name, f"seeing.{name}")
