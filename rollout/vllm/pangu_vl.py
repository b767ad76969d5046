"""openPangu-VL and MindVL in vLLM. uint8 patches and ids -> **our vision tower, vLLM's text model** -> logits.

The tower is the module that trains; the text model is vLLM's own of the same kind, with its attention and cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import MultiModalEmbeddings, SupportsMRoPE, SupportsMultiModal, SupportsPP
from vllm.model_executor.models.llama import LlamaForCausalLM, LlamaModel
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper, init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.sequence import IntermediateTensors

from pretrain.models.configuration import vision_tokens
from pretrain.models.positions import MERGE, multimodal_positions
from pretrain.models.vit import VisionModel
from pretrain.processing.special_tokens import FAMILIES
from rollout.vllm.multimodal import GRIDS, PIXELS, DummyPictures, PictureProcessor, ProcessingInfo


@MULTIMODAL_REGISTRY.register_processor(PictureProcessor, info=ProcessingInfo, dummy_inputs=DummyPictures)
class VllmPanguVL(nn.Module, SupportsMultiModal, SupportsMRoPE, SupportsPP):
    """openPangu-VL, and by its configuration any of `rollout.vllm.plugin.CLASSES`."""

    spelling = FAMILIES[1]
    """How the model's own tokenizer writes start, image, video and end."""
    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            "model.visual.": "visual.",
            "model.language_model.": "language_model.model.",
            "model.": "language_model.model.",
            "lm_head.": "language_model.lm_head.",
        }
    )

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        text = config.get_text_config()
        self.config = config
        self.tokens = vision_tokens(config)
        with self._mark_tower_model(vllm_config, {"image", "video"}):
            self.visual = VisionModel(config.vision_config, text.hidden_size)
        with self._mark_language_model(vllm_config):
            self.language_model = build_text_model(vllm_config, maybe_prefix(prefix, "language_model"), text)
        self._shapes = _tensor_shapes(config.vision_config, text)
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """A picture in the text of chats whose template takes no parts."""
        start, image, video, end = cls.spelling
        return start + {"image": image, "video": video}[modality] + end

    def embed_multimodal(self, **kwargs: torch.Tensor) -> MultiModalEmbeddings:
        """Features of every picture, [its tokens, E] each; all pictures of a call go through the tower together."""
        features: list[torch.Tensor] = []
        for modality, name in PIXELS.items():
            if (patches := kwargs.get(name)) is not None:
                grids = kwargs[GRIDS[modality]]
                features += self.visual(patches, grids).split((grids.prod(-1) // MERGE**2).tolist())
        return features

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[MultiModalFeatureSpec]
    ) -> tuple[torch.Tensor, int]:
        """(positions int64 [3, T], what to add to a later token's index to get its position).

        A placeholder id outside of all pictures is a token like any other: a prompt may quote it, a model may draw it.
        """
        ids, covered, grids = np.array(input_tokens), np.zeros(len(input_tokens), bool), []
        for feature in sorted(mm_features, key=lambda feature: feature.mm_position.offset):
            place = feature.mm_position
            covered[place.offset : place.offset + place.length] = True
            grids.append(tuple(feature.data[GRIDS[feature.modality]].data.tolist()))
        ids[~covered & np.isin(ids, [self.tokens.image, self.tokens.video])] = self.tokens.end
        positions = multimodal_positions(ids, grids, self.tokens)
        return torch.from_numpy(positions), int(positions.max()) + 1 - len(ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        """Last hidden states [T, E]; positions [3, T], or [T] without M-RoPE."""
        return self.language_model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a whole checkpoint, by the names of either style; at the start and at every sync.

        Raises:
            ValueError: a tensor is missing, unknown or of another shape; vLLM's own loaders let some of that pass.
        """
        mapper, seen = self.hf_to_vllm_mapper, set()
        loaded = AutoWeightsLoader(self).load_weights(self._checked(weights, seen), mapper=mapper)
        tied = {"language_model.lm_head.weight"} if self.config.tie_word_embeddings else set()
        if missing := sorted(self._shapes.keys() - seen - tied):
            raise ValueError(f"{len(missing)} tensors are missing from the checkpoint, the first is {missing[0]}")
        return loaded

    def _checked(
        self, weights: Iterable[tuple[str, torch.Tensor]], seen: set[str]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            (place,) = self.hf_to_vllm_mapper.apply_list([name])
            found, expected = tuple(tensor.shape), self._shapes.get(place)
            if found != expected:
                has = f"{list(expected)}" if expected else "no such tensor"
                raise ValueError(f"tensor {name} has shape {list(found)} in the checkpoint; the model has {has}")
            seen.add(place)
            yield name, tensor


class VllmMindVL(VllmPanguVL):
    """MindVL, whose text model is Qwen's."""

    spelling = FAMILIES[0]


def _tensor_shapes(vision: PreTrainedConfig, text: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor that a checkpoint may have, by its place in the model, before vLLM fuses or ties any."""
    with torch.device("meta"):
        parts = {
            "visual": VisionModel(vision, text.hidden_size),
            "language_model": AutoModelForCausalLM.from_config(text),
        }
    return {
        f"{part}.{name}": tuple(parameter.shape)
        for part, model in parts.items()
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


@support_torch_compile(
    dynamic_arg_dims={"input_ids": 0, "positions": -1, "intermediate_tensors": 0, "inputs_embeds": 0}
)
class ThreeRowLlamaModel(LlamaModel):
    """vLLM's Llama, compiled for positions [3, T]: its own compiles for [T]."""


class ThreeRowLlama(LlamaForCausalLM):
    def _init_model(self, **arguments: Any) -> LlamaModel:
        return ThreeRowLlamaModel(**arguments)


def build_text_model(vllm_config: VllmConfig, prefix: str, text: PreTrainedConfig) -> nn.Module:
    """vLLM's model of the text configuration's type; interleaved sections are its rope type "openpangu"."""
    served = deepcopy(text)
    if served.rope_parameters.get("mrope_interleaved"):
        served.rope_parameters["rope_type"] = "openpangu"
    if served.model_type == "llama" and "mrope_section" in served.rope_parameters:
        return ThreeRowLlama(vllm_config=vllm_config.with_hf_config(served, ["LlamaForCausalLM"]), prefix=prefix)
    return init_vllm_registered_model(vllm_config, prefix=prefix, hf_config=served)
