"""Pictures on their way into vLLM. Prompt with pictures -> **processor** -> expanded ids and uint8 patches -> model.

A picture is given as `pangu_rl.records.Picture` (cut already), as a PIL image, or, for a video, as its frames. What
travels to the engine core and its workers is a byte a channel of a pixel; scaling, normalising and the doubling of the
frame happen on the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from vllm.inputs import MultiModalDataDict
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems, MultiModalDataParser, ProcessorBatchItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdateDetails,
)
from vllm.multimodal.processing.processor import PlaceholderFeaturesInfo

from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from pretrain.families import family_of
from pretrain.families.family import Family
from pretrain.processing.pictures import to_rgb
from pretrain.processing.resize import TOKEN, PixelLimits
from pretrain.processing.video_frames import cut_frames, stack_frames

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
"""Modality -> the model's argument with the patches, uint8 [P, columns]."""
GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}
"""Modality -> the model's argument with the grids, int64 [I, 3]."""
TOKEN_PIXELS = TOKEN**2


class PictureItems(ProcessorBatchItems[Any]):
    """Pictures of one modality; one that was cut by us is known by the hash of its file, not of its pixels."""

    def get_item_for_hash(self, index: int) -> object:
        item = self.data[index]
        return [item.sha256, *item.grid] if isinstance(item, Picture) else item


class PictureParser(MultiModalDataParser):
    """What a user may give as `multi_modal_data`: one item or a list of them, for `image` and for `video`."""

    def _parse_image_data(self, data: Any) -> PictureItems | None:
        return _items(data, isinstance(data, list), "image")

    def _parse_video_data(self, data: Any) -> PictureItems | None:
        # A list of frames is one video; a list of arrays, of pairs (frames, metadata) or of pictures is several.
        return _items(data, isinstance(data, list) and not any(isinstance(d, Image.Image) for d in data), "video")


def _items(data: Any, several: bool, modality: str) -> PictureItems | None:
    return None if data is None else PictureItems(data if several else [data], modality)


class ProcessingInfo(BaseProcessingInfo):
    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return dict.fromkeys(self.family.modalities)

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """A picture longer than the sequence can never be served: buffers are not sized for it."""
        family, most = self.family, {}
        if "image" in mm_counts:
            most["image"] = math.prod(family.longest(self.limits({}))) // family.merge**2
        if "video" in mm_counts:
            most["video"] = family.video_budget.total_pixels // TOKEN_PIXELS
        return {modality: min(tokens, seq_len) for modality, tokens in most.items()}

    def get_data_parser(self) -> PictureParser:
        return PictureParser()

    @cached_property
    def family(self) -> Family:
        return family_of(self.get_hf_config().to_dict(), Path(self.model_id))

    def limits(self, changes: Mapping[str, object]) -> PixelLimits:
        """Of images that come uncut: what the model folder's processor was saved with, changed by the engine's
        `mm_processor_kwargs` and by `changes`, the request's.

        Raises:
            ValueError: something else than the limits is to be changed.
        """
        default, changes = asdict(self.family.limits), self.ctx.get_merged_mm_kwargs(changes)
        if unknown := sorted(changes.keys() - default.keys()):
            raise ValueError(f"mm_processor_kwargs {unknown}: only min_pixels and max_pixels can be set")
        return PixelLimits(**default | changes)


class DummyPictures(BaseDummyInputsBuilder[ProcessingInfo]):
    """The longest item of each modality, for vLLM's memory profile."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        ids, tokenizer = self.info.family.modalities, self.info.get_tokenizer()
        return "".join(tokenizer.decode([ids[modality]]) * count for modality, count in mm_counts.items())

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, object]
    ) -> MultiModalDataDict:
        longest = self.info.get_mm_max_tokens_per_item(seq_len, mm_counts)
        blank = partial(_blank, self.info.family)
        return {modality: [blank(modality, longest[modality])] * count for modality, count in mm_counts.items()}


class PictureProcessor(BaseMultiModalProcessor[ProcessingInfo]):
    """Takes prompts with one placeholder per picture, and prompts whose placeholders are expanded already."""

    def _apply_hf_processor_main(self, *, mm_items: MultiModalDataItems, **others: Any) -> Any:
        """In place of a processor of transformers: cut what is not cut yet, one tensor per modality.

        vLLM 0.23 hands over the prompt too and takes (ids, fields, whether they are expanded); 0.32 takes the fields.
        """
        limits = self.info.limits(others.get("hf_kwargs") or others.get("hf_processor_mm_kwargs") or {})
        fields = BatchFeature()
        for modality, items in mm_items.items():
            pictures = [cut(item, self.info.family, limits, modality) for item in items.get_all()]
            fields[PIXELS[modality]] = torch.from_numpy(np.concatenate([patches for patches, _ in pictures]))
            fields[GRIDS[modality]] = torch.tensor([grid for _, grid in pictures])
        if "prompt" not in others:
            return fields
        prompt = others["prompt"]
        text = isinstance(prompt, str)
        ids = self.info.get_tokenizer().encode(prompt, **others["tokenization_kwargs"]) if text else prompt
        return ids, fields, False

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        fields = {}
        for modality, name in GRIDS.items():
            grids = hf_inputs.get(name, torch.empty(0, 3, dtype=torch.int64))
            fields[PIXELS[modality]] = MultiModalFieldConfig.flat_from_sizes(modality, grids.prod(-1))
            fields[name] = MultiModalFieldConfig.batched(modality, keep_on_cpu=True)
        return fields

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptReplacement]:
        family = self.info.family

        def replacement(modality: str, placeholder: int) -> PromptReplacement:
            def expanded(index: int) -> PromptUpdateDetails:
                grid = tuple(out_mm_kwargs[modality][index][GRIDS[modality]].data.tolist())
                run = family.run(placeholder, grid)
                return PromptUpdateDetails.select_token_id(run, embed_token_id=placeholder)

            return PromptReplacement(modality=modality, target=[placeholder], replacement=expanded)

        return [replacement(modality, placeholder) for modality, placeholder in family.modalities.items()]

    def _apply_prompt_updates(self, token_ids: list[int], mm_prompt_updates: Any) -> tuple[list[int], Any]:
        """(expanded ids, placeholders by modality).

        Raises:
            ValueError: the prompt's placeholders are neither one per picture nor exactly the pictures' tokens.
        """
        found = self._find_mm_placeholders(token_ids, mm_prompt_updates)
        items = [updates[0] for modality in mm_prompt_updates.values() for updates in modality]
        places = [place for modality in found.values() for place in modality]
        if len(places) == len(items) and _are_whole(places, token_ids):
            return token_ids, found
        written = sum(token in self.info.family.placeholders for token in token_ids)
        if written != len(items):
            raise ValueError(
                f"{written} placeholder tokens for {len(items)} pictures of {[len(i.content.full) for i in items]} "
                "tokens: write one for each picture, or as many as each has tokens"
            )
        return super()._apply_prompt_updates(token_ids, mm_prompt_updates)


def _are_whole(places: Sequence[PlaceholderFeaturesInfo], token_ids: Sequence[int]) -> bool:
    """Whether every run of placeholders ends where its pictures do."""
    covered = {index for place in places for index in range(place.start_idx, place.start_idx + place.length)}
    beside = [(place, index) for place in places for index in (place.start_idx - 1, place.start_idx + place.length)]
    return not any(
        0 <= index < len(token_ids) and index not in covered and token_ids[index] == place.tokens[0]
        for place, index in beside
    )


def cut(item: Any, family: Family, limits: PixelLimits, modality: str) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Patches uint8 [P, columns] and grid (t, h, w) of what a user gave for a picture or a video.

    Raises:
        ValueError: it cannot be shown; vLLM refuses the request with the reason.
    """
    if isinstance(item, Picture):
        return item.patches, item.grid
    try:
        if modality == "video":
            # vLLM's own loader gives (frames, metadata); which frames to take was decided there.
            frames = stack_frames(item[0] if isinstance(item, tuple) else item)
            # Items are cut one by one, so each video of a prompt that comes as frames has a budget of its own.
            grid, patches = cut_frames(frames, family.video_budget.limits(len(frames)))
            return patches, grid
        image = item if isinstance(item, Image.Image) else Image.fromarray(np.asarray(item))
        rgb = to_rgb(image, "an image of the prompt")
        return family.cut(rgb, limits), family.grid(rgb.height, rgb.width, limits)
    except DataError as error:
        raise ValueError(str(error)) from error


def _blank(family: Family, modality: str, tokens: int) -> Picture:
    """A black picture of so many tokens in one row; a video is of frames as large as its budget makes them."""
    frames = max(1, tokens * TOKEN_PIXELS // family.video_budget.frame_max_pixels) if modality == "video" else 1
    grid = (frames, family.merge, family.merge * (tokens // frames))
    patches = np.zeros((math.prod(grid), family.columns), np.uint8)
    return family.picture(patches, grid, sha256=f"blank {grid}")
