"""openPangu-VL and MindVL in vLLM: **our vision tower, vLLM's text model** of the same kind."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.model_executor.models.llama import LlamaForCausalLM, LlamaModel
from vllm.model_executor.models.utils import WeightsMapper, init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY

from pretrain.families import family_of
from pretrain.models.vit import VisionModel
from pretrain.processing.special_tokens import FAMILIES
from rollout.vllm.multimodal import DummyPictures, PictureProcessor, ProcessingInfo
from rollout.vllm.served import ServedModel


@MULTIMODAL_REGISTRY.register_processor(PictureProcessor, info=ProcessingInfo, dummy_inputs=DummyPictures)
class VllmPanguVL(ServedModel):
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
        self.family = family_of(config.to_dict(), Path(vllm_config.model_config.model))
        with self._mark_tower_model(vllm_config, {"image", "video"}):
            self.visual = VisionModel(config.vision_config, text.hidden_size)
        with self._mark_language_model(vllm_config):
            self.language_model = build_text_model(vllm_config, maybe_prefix(prefix, "language_model"), text)
        self.shapes = _tensor_shapes(config.vision_config, text)
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """A picture in the text of chats whose template takes no parts."""
        start, image, video, end = cls.spelling
        return start + {"image": image, "video": video}[modality] + end

    def encode(self, patches: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        return self.visual(patches, grids)


class VllmMindVL(VllmPanguVL):
    """MindVL, whose text model is Qwen's."""

    spelling = FAMILIES[0]


def _tensor_shapes(vision: PreTrainedConfig, text: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
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
