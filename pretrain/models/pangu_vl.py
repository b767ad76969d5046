"""openPangu-VL: ids and pictures -> tower and connector -> **embeddings in their places** -> language model -> logits.

The submodules are `visual`, `model` and `lm_head`, so parameter names are those of the released checkpoints.
Letters: B batch, T tokens, P patches, I pictures, K picture tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from pangu_rl.errors import ConfigError, DataError
from pretrain.models.batch_positions import GRIDS, PICTURE_INPUTS, Pictures
from pretrain.models.checkpoint import NEWER_STYLE, check_checkpoint
from pretrain.models.configuration import PanguVLConfig, vision_tokens
from pretrain.models.generation import PictureGeneration, past_length
from pretrain.models.rope import MultimodalRope
from pretrain.models.vit import VisionModel

LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""What the heads of some language models do beyond a matrix product, by the names of their configurations."""


class PanguVLForConditionalGeneration(PreTrainedModel, PictureGeneration, GenerationMixin):
    """Any causal backbone of transformers with our tower before it."""

    config_class = PanguVLConfig
    base_model_prefix = ""
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["Block"]

    def __init__(self, config: PanguVLConfig) -> None:
        """
        Raises:
            ConfigError: a backbone whose rotary embedding or output head is none that we can stand in for.
        """
        super().__init__(config)
        text = config.text_config
        self.tokens = vision_tokens(config)
        self.visual = VisionModel(config.vision_config, text.hidden_size)
        # In the dtype of the tower, whatever a saved `text_config` names.
        self.model = AutoModel.from_config(text, dtype=torch.get_default_dtype())
        _check_backbone(self.model, text)
        head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.model.rotary_emb = MultimodalRope(text.rope_parameters, head_size)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        embeddings = self.model.get_input_embeddings()
        (name,) = (name for name, module in self.model.named_modules() if module is embeddings)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}.weight"}
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, from names of either style; a folder is checked against its configuration first.

        Raises:
            DataError: a tensor has another shape, is missing or is unknown.
        """
        folder = Path(str(pretrained_model_name_or_path))
        if folder.is_dir() and not kwargs.get("subfolder") and not kwargs.get("ignore_mismatched_sizes"):
            config = kwargs.get("config") or cls.config_class.from_pretrained(folder)
            if getattr(config, "quantization_config", None) is None:
                with torch.device("meta"):
                    check_checkpoint(folder, cls(deepcopy(config)))
        kwargs.setdefault("key_mapping", NEWER_STYLE)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers, by the released names, whatever names the weights came by."""
        super().save_pretrained(*args, **{"save_original_format": False} | kwargs)

    def set_attn_implementation(self, attn_implementation: str | dict[str, str], *args: Any, **kwargs: Any) -> None:
        """Of the language model; the tower's attention is `varlen_attention`, always."""
        if isinstance(attn_implementation, str):
            tower = self.config.vision_config._attn_implementation
            attn_implementation = dict.fromkeys(("", "text_config"), attn_implementation) | {"vision_config": tower}
        super().set_attn_implementation(attn_implementation, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def encode_pictures(self, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
        """Features [K, E] of all pictures in order; see `VisionModel.forward` for the inputs and errors."""
        return self.visual(pixel_values, grid_thw)

    def hidden_states(self, inputs_embeds: Tensor, position_ids: Tensor) -> Tensor:
        """The backbone's last hidden states [1, T, E] of embeddings [1, T, E] at positions [3, 1, T] or [1, T].

        Without a cache, which would make packed sequences see each other.
        """
        with self.model.rotary_emb.at(position_ids):
            return self.model(inputs_embeds=inputs_embeds, use_cache=False).last_hidden_state

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V], and the next-token loss if there are `labels` [B, T] (-100 is left out).

        Pictures come as `pixel_values` with `image_grid_thw` and `pixel_values_videos` with `video_grid_thw`, all of
        the batch in order. `position_ids`, [3, B, T] or [B, T], are worked out from ids, mask and grids unless given.

        Raises:
            DataError: placeholders and pictures do not match.
        """
        pictures = {name: kwargs.pop(name, None) for name in PICTURE_INPUTS}
        items = kwargs.pop("num_items_in_batch", None)
        if position_ids is None:
            past = past_length(kwargs.get("past_key_values"))
            position_ids = self._positions(input_ids, inputs_embeds, attention_mask, pictures, past)
        if inputs_embeds is None:
            inputs_embeds = self._embed(input_ids, pictures)
        elif any(value is not None for value in pictures.values()):
            raise DataError("inputs_embeds and pictures were given: pictures take their places among input_ids")
        with self.model.rotary_emb.at(position_ids):
            output = self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            vocabulary = self.config.text_config.vocab_size
            loss = self.loss_function(logits, labels, vocab_size=vocabulary, num_items_in_batch=items)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _positions(
        self, ids: Tensor | None, embeds: Tensor | None, mask: Tensor | None, pictures: Pictures, past: int
    ) -> Tensor | None:
        """None leaves the backbone to count: embeddings do not tell where pictures are."""
        if past:
            return self.continued_positions(mask, past, (ids if embeds is None else embeds).shape[1])
        return None if ids is None else self.prompt_positions(ids, mask, pictures)

    def _embed(self, input_ids: Tensor, pictures: Pictures) -> Tensor:
        """[B, T, E], features in the places of the placeholders."""
        embeds = self.get_input_embeddings()(input_ids)
        ids = {"pixel_values": self.tokens.image, "pixel_values_videos": self.tokens.video}
        for patches, grids in GRIDS.items():
            if pictures[patches] is None:
                continue
            if pictures[grids] is None:
                raise DataError(f"{patches} was given without {grids}")
            features = self.encode_pictures(pictures[patches], pictures[grids]).to(embeds.dtype)
            places = input_ids == ids[patches]
            if (found := int(places.sum())) != len(features):
                raise DataError(
                    f"{found} placeholder tokens of id {ids[patches]} for the {len(features)} features of {patches}"
                )
            embeds = embeds.masked_scatter(places.unsqueeze(-1), features)
        return embeds

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv3d) and module is not self.lm_head:
            init.normal_(module.weight, std=self.config.vision_config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


def _check_backbone(model: PreTrainedModel, text: PreTrainedConfig) -> None:
    if not isinstance(getattr(model, "rotary_emb", None), nn.Module):
        raise ConfigError(
            f"text_config.model_type {text.model_type}: {type(model).__name__} has no rotary_emb, so it cannot take "
            "positions of three axes"
        )
    for name in LOGIT_CHANGES:
        if (value := getattr(text, name, None)) not in (None, 1.0):
            raise ConfigError(
                f"text_config.{name} is {value}: the output head is a plain matrix, which does not apply it"
            )
