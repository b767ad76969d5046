"""Qwen3-VL of transformers: as Qwen2-VL, and features of deeper blocks are added to the first layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pretrain.families.family import TowerSize
from pretrain.families.qwen2_vl import Qwen2VL

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Qwen3VL(Qwen2VL):
    model_types = ("qwen3_vl",)
    served: ClassVar = {"Qwen3VLForConditionalGeneration": "Qwen3ForCausalLM"}
    encoder = (*Qwen2VL.encoder, "model.visual.pos_embed.")

    @property
    def deeper_layers(self) -> int:
        return len(self.config["vision_config"]["deepstack_visual_indexes"])

    @property
    def patch(self) -> int:
        return self.config["vision_config"].get("patch_size", 16)

    def tower_size(self, vision: PreTrainedConfig, text_width: int) -> TowerSize:
        merged = self.merge**2 * vision.hidden_size
        return TowerSize(
            depth=vision.depth,
            full=vision.depth,
            width=vision.hidden_size,
            inner=vision.intermediate_size,
            matrices=2,
            connector=(1 + self.deeper_layers) * (merged**2 + merged * text_width),
        )

    def encode(self, lm: PreTrainedModel, patches: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        output = self._tower(lm, patches, grids)
        return output.pooler_output, *output.deepstack_features

    def hidden_states(
        self, lm: PreTrainedModel, embeddings: Tensor, positions: Tensor, places: Tensor, deeper: Sequence[Tensor]
    ) -> Tensor:
        shown = embeddings.new_zeros(embeddings.shape[:2]).bool()
        shown[0, places] = True
        output = lm.model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            visual_pos_masks=shown,
            deepstack_visual_embeds=list(deeper),
            use_cache=False,
        )
        return output.last_hidden_state
