"""`generate` with pictures: prompts, pictures -> **positions, pictures once per prompt** -> the model, token by token.

Letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache, GenerationMixin

from pretrain.models.batch_positions import GRIDS, PICTURE_INPUTS, Pictures, batch_positions, grids_by_row
from pretrain.models.positions import VisionTokens

if TYPE_CHECKING:
    from transformers.generation.utils import ModelOutput


class PictureGeneration(GenerationMixin):
    """transformers' generation, for a model with `tokens` whose `forward` takes the inputs of `PICTURE_INPUTS`."""

    tokens: VisionTokens
    rope_deltas: Tensor | None = None
    """int64 [B, 1] of the last prompts, as `batch_positions` gives them: later tokens go on from there."""

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As in transformers; with a cache, the pictures are read once, with the prompt.

        `generate` takes what is named here or in `forward`, and nothing else.
        """
        inputs = super().prepare_inputs_for_generation(input_ids, past_key_values=past_key_values, **kwargs)
        if kwargs.get("is_first_iteration") or not kwargs.get("use_cache", True):
            pictures = (pixel_values, image_grid_thw, pixel_values_videos, video_grid_thw)
            inputs |= dict(zip(PICTURE_INPUTS, pictures, strict=True))
        return inputs

    def prompt_positions(self, ids: Tensor, mask: Tensor | None, pictures: Pictures) -> Tensor:
        """int64 [3, B, T] of prompts [B, T], and what continues them remembered."""
        positions, self.rope_deltas = batch_positions(ids, mask, pictures, self.tokens)
        return positions

    def continued_positions(self, mask: Tensor | None, past: int, count: int) -> Tensor | None:
        """int64 [B, count] of the tokens after `past` cached ones, the same on all axes; None if nothing is known."""
        if self.rope_deltas is None:
            return None
        if mask is None:
            return torch.arange(past, past + count, device=self.rope_deltas.device) + self.rope_deltas
        return mask.long().cumsum(-1)[:, -count:] - 1 + self.rope_deltas

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """[3, B, T] of the prompt, or [B, T] of a cached one that goes on."""
        ids = model_kwargs.get("input_ids", inputs_tensor)
        if past_length(model_kwargs.get("past_key_values")):
            plain = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
            return plain if self.rope_deltas is None else plain + self.rope_deltas
        if ids.is_floating_point():
            return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        return self.prompt_positions(ids, model_kwargs.get("attention_mask"), model_kwargs)

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """The next position is the same on all axes: a prompt may end within a picture, where they differ."""
        before = model_kwargs.get("position_ids")
        updated = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if before is not None and before.dim() == 3:
            new = updated["position_ids"][..., before.shape[-1] :]
            new.copy_(new.amax(0, keepdim=True).expand_as(new))
        return updated

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Every row `expand_size` times, one after the other, and its pictures with it."""
        pictures = {name: model_kwargs.pop(name) for name in PICTURE_INPUTS if name in model_kwargs}
        axes = {}
        if (positions := model_kwargs.get("position_ids")) is not None and positions.dim() == 3:
            # transformers repeats the rows of [3, B, T] from some 5.x on; 5.5 repeats the axes.
            axes["position_ids"] = model_kwargs.pop("position_ids").repeat_interleave(expand_size, 1)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        if expand_size > 1 and any(value is not None for value in pictures.values()):
            rows = list(input_ids[::expand_size].cpu().numpy())
            pictures = dict(_repeated(pictures, grids_by_row(rows, pictures, self.tokens), expand_size))
        return input_ids, model_kwargs | axes | pictures


def past_length(cache: Any) -> int:
    """Tokens that a cache of transformers, or none, already holds."""
    return 0 if cache is None else int(cache.get_seq_length())


def _repeated(pictures: Pictures, by_row: list[list[tuple[str, Any]]], times: int) -> Iterator[tuple[str, Tensor]]:
    for name, grids in GRIDS.items():
        if pictures.get(name) is None:
            continue
        thw = pictures[grids]
        counts = [sum(kind == name for kind, _ in own) for own in by_row]
        pieces = iter(pictures[name].split(thw.prod(-1).tolist()))
        patches = [[next(pieces) for _ in range(count)] * times for count in counts]
        yield name, torch.cat([piece for row in patches for piece in row])
        yield grids, torch.cat([row.repeat(times, 1) for row in thw.split(counts)])
