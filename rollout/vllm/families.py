"""transformers' vision-language models in vLLM. uint8 patches and ids -> **what vLLM's own class takes** -> logits.

vLLM has a class for each of them, whose processor needs transformers' own and with it torchvision and a video decoder.
Here the class is vLLM's, and the pictures are ours: cut by the family's rule, as the learner sees them.

`plugin.register` names each as `rollout.vllm.families:<architecture>`; the class is made when vLLM asks for it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import MultiModalEmbeddings
from vllm.multimodal import MULTIMODAL_REGISTRY

from pretrain.families import FAMILIES, family_of
from rollout.vllm.multimodal import DummyPictures, PictureProcessor, ProcessingInfo


class CutPictures:
    """Stands before a class of vLLM, and gives it pictures in its own form."""

    supports_mm_device_do_normalize = False

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        model = vllm_config.model_config
        self.pangu_family = family_of(model.hf_config.to_dict(), Path(model.model))

    def embed_multimodal(self, **kwargs: torch.Tensor) -> MultiModalEmbeddings:
        """Features of every picture, [its tokens, E] each, of uint8 `pixel_values` [P, columns] and grids [I, 3]."""
        if kwargs.get("pixel_values") is None:
            return []
        return super().embed_multimodal(
            **self.pangu_family.served_inputs(kwargs["pixel_values"], kwargs["image_grid_thw"])
        )


@cache
def __getattr__(architecture: str) -> type:
    """The class that serves `architecture`.

    Raises:
        AttributeError: no family has it.
    """
    served = next((family.served[architecture] for family in FAMILIES if architecture in family.served), None)
    if served is None:
        raise AttributeError(architecture)
    module, _, name = served.partition(":")
    theirs = getattr(import_module(module), name)
    ours = type(architecture, (CutPictures, theirs), {"__module__": __name__})
    return MULTIMODAL_REGISTRY.register_processor(PictureProcessor, info=ProcessingInfo, dummy_inputs=DummyPictures)(
        ours
    )
