"""The processor as Hugging Face knows it: text and pictures in, a model's inputs out. Messages -> **tensors**.

It neither needs torchvision nor touches pixel values: patches leave as uint8. The text is taken to be a rendered
conversation, so no special tokens are added to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin

from pangu_rl.errors import ConfigError, DataError
from pretrain.processing.media_root import named
from pretrain.processing.patches import COLUMNS, resized, to_patches
from pretrain.processing.pictures import open_picture, to_rgb
from pretrain.processing.resize import PATCH, TRAINING, PixelLimits
from pretrain.processing.special_tokens import SpecialTokens
from pretrain.processing.video import BUDGET_KEYS, Sampling, VideoBudget
from pretrain.processing.video_frames import cut_frames, read_frames, stack_frames

Grid = tuple[int, int, int]
FIXED = {"patch_size": PATCH, "merge_size": 2}
"""What a released configuration states too, and this code does not vary."""
UNCHANGING = {"add_special_tokens": False, "truncation": False, "max_length": None, "pad_to_multiple_of": None}
"""Options of other processors, with the one value that is taken: a trainer that has settled them hands them over."""


class PanguVLImageProcessor(BaseImageProcessor):
    """Pictures -> uint8 patches at native resolution."""

    model_input_names = ("pixel_values", "image_grid_thw")

    def __init__(
        self, min_pixels: int = TRAINING.min_pixels, max_pixels: int = TRAINING.max_pixels, **kwargs: Any
    ) -> None:
        """`kwargs` are what a released `preprocessor_config.json` holds besides; those that matter must be ours.

        Raises:
            ConfigError: limits that are none, or another size of patches.
        """
        if wrong := {key: kwargs[key] for key in FIXED if kwargs.get(key, FIXED[key]) != FIXED[key]}:
            raise ConfigError(f"preprocessor_config.json asks for {wrong}; this model has {FIXED}")
        super().__init__(**kwargs)
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.limits()

    def limits(self) -> PixelLimits:
        """The limits as a record."""
        return PixelLimits(self.min_pixels, self.max_pixels)

    def preprocess(self, images: Any, return_tensors: str | None = None) -> BatchFeature:
        """One picture or any nesting of them, each a Pillow image, a uint8 array [H, W, 3] or a local path.

        Returns:
            `pixel_values` uint8 [P, 588] and `image_grid_thw` int64 [I, 3], in order.

        Raises:
            DataError: as `open_picture` and `smart_resize`.
        """
        shown = [resized(_rgb(image), self.limits()) for image in _flat(images)]
        grids = [(1, rgb.shape[0] // PATCH, rgb.shape[1] // PATCH) for rgb in shown]
        data = _features("pixel_values", "image_grid_thw", grids, [to_patches(rgb) for rgb in shown])
        return BatchFeature(data, tensor_type=return_tensors)


class PanguVLProcessor(ProcessorMixin):
    """Text, pictures and videos -> `input_ids` with their placeholders expanded, masks, patches and grids.

    A placeholder is one picture or video token between the start and end tokens. In `apply_chat_template` only the
    template's own count, whatever the messages spell; in `__call__`, which is given rendered text, a picture token that
    stands alone is text.
    """

    def __init__(
        self,
        image_processor: PanguVLImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
    ) -> None:
        """Raises ConfigError for a tokenizer without vision tokens."""
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)
        self._special = SpecialTokens(tokenizer)
        given = {key: getattr(image_processor, key, None) for key in BUDGET_KEYS.values()}
        self._budget = VideoBudget.of_processor(given, "preprocessor_config.json")

    @property
    def model_input_names(self) -> list[str]:
        """Every input that a processed batch may hold."""
        return [*super().model_input_names, "pixel_values_videos", "video_grid_thw"]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        **options: Any,
    ) -> BatchFeature:
        """Encode rendered text.

        Args:
            images: pictures in the order of their placeholders: one, a list, or a list per text. A picture is a Pillow
                image, a uint8 array [H, W, 3], or a local path.
            text: one text or B of them.
            videos: likewise; a video is a list of pictures of one size, a uint8 array [T, H, W, 3], or a local path.
            options: `padding` (True), `padding_side` ("left"), `return_tensors` (None: lists and arrays) and `sampling`
                (which frames of a video file to take; `Sampling()`); and those of `UNCHANGING` with its values.

        Returns:
            `input_ids` and `attention_mask` [B, T], and for pictures `pixel_values` uint8 [P, 588] and `image_grid_thw`
            int64 [I, 3], for videos `pixel_values_videos` and `video_grid_thw`, all in the order of the texts.

        Raises:
            DataError: a sample has more placeholders than pictures or fewer (both numbers), or a bad picture.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        rendered = [self._special.break_lone_pads(sample) for sample in texts]
        return self._encode(rendered, {"image": images, "video": videos}, **options)

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Render one conversation, or a list of them, and encode it with the pictures that its parts hold.

        Args:
            conversation: messages whose contents are text or parts; `{"type": "image", "image": picture}` and
                `{"type": "video", "video": video}` hold what `__call__` takes, also under `url` or `path`.
            chat_template: Jinja to use instead of the processor's own.
            tokenize: False gives the rendered text alone, in which a spelling is no longer told from a placeholder.
            return_dict: False gives `input_ids` alone.
            processor_kwargs: the options of `__call__`.
            kwargs: `return_tensors`, and what the template knows, such as `add_generation_prompt`.

        Raises:
            DataError: as `__call__`.
        """
        return_tensors = kwargs.pop("return_tensors", None)
        if not tokenize:
            return super().apply_chat_template(conversation, chat_template, **kwargs)
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        rendered, media = [], {"image": [], "video": []}
        for messages in conversation if batched else [conversation]:
            guard, guarded = self._special.break_all(messages)
            rendered.append((guard, super().apply_chat_template(guarded, chat_template, **kwargs)))
            for kind, held in media.items():
                held.append(list(_media(messages, kind)))
        encoded = self._encode(rendered, media, return_tensors=return_tensors, **(processor_kwargs or {}))
        return encoded if return_dict else encoded["input_ids"]

    def _encode(
        self,
        rendered: Sequence[tuple[str, str]],
        media: dict[str, Any],
        *,
        padding: bool | str = True,
        padding_side: str = "left",
        return_tensors: str | None = None,
        sampling: Sampling | None = None,
        **others: Any,
    ) -> BatchFeature:
        """Inputs of rendered texts, each with the guard that breaks what is no special token of its own."""
        if refused := {name: value for name, value in others.items() if value != UNCHANGING.get(name, ...)}:
            raise TypeError(f"{type(self).__name__} has no options {refused}: samples are neither cut nor changed")
        ids = [self._special.encode(self.tokenizer, guard, text) for guard, text in rendered]
        images = _dealt(media["image"], _is_picture, [sample.count(self._special.image) for sample in ids], "image")
        videos = _dealt(media["video"], _is_video, [sample.count(self._special.video) for sample in ids], "video")
        stills = self.image_processor.preprocess(images) if any(images) else {}
        clips = self._cut_videos(videos, sampling or Sampling()) if any(videos) else {}
        grids = iter(stills.get("image_grid_thw", ())), iter(clips.get("video_grid_thw", ()))
        expanded = [self._special.expand(sample, *grids) for sample in ids]
        filled = _padded(expanded, self.tokenizer.pad_token_id or 0, padding_side) if padding else _unpadded(expanded)
        return BatchFeature({**filled, **stills, **clips}, tensor_type=return_tensors)

    def _cut_videos(self, videos: list[list[Any]], sampling: Sampling) -> dict[str, np.ndarray]:
        """Features of each sample's videos, which share one budget of pixels."""
        cut = []
        for sample in videos:
            clips = [_frames(video, sampling) for video in sample]
            limits = self._budget.limits(sum(map(len, clips)))
            cut += [cut_frames(rgb, limits) for rgb in clips]
        grids, patches = zip(*cut, strict=True)
        return _features("pixel_values_videos", "video_grid_thw", grids, patches)


def _flat(pictures: Any) -> list[Any]:
    if pictures is None or _is_picture(pictures):
        return [] if pictures is None else [pictures]
    return [picture for inner in pictures for picture in _flat(inner)]


def _features(pixels: str, grid: str, grids: Sequence[Grid], patches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {
        pixels: np.concatenate([*patches, np.empty((0, COLUMNS), np.uint8)]),
        grid: np.array(grids, np.int64).reshape(-1, 3),
    }


def _unpadded(ids: list[list[int]]) -> dict[str, list[list[int]]]:
    return {"input_ids": ids, "attention_mask": [[1] * len(sample) for sample in ids]}


def _padded(ids: list[list[int]], fill: int, side: str) -> dict[str, list[list[int]]]:
    longest = max(map(len, ids), default=0)
    filled = {"input_ids": [], "attention_mask": []}
    for sample in ids:
        gap = longest - len(sample)
        for key, values, pad in (("input_ids", sample, fill), ("attention_mask", [1] * len(sample), 0)):
            filled[key].append([pad] * gap + values if side == "left" else values + [pad] * gap)
    return filled


def _dealt(given: Any, is_item: Callable[[Any], bool], counts: Sequence[int], kind: str) -> list[list[Any]]:
    """Pictures or videos per sample, as many as the sample has placeholders.

    Raises:
        DataError: more of them or fewer than placeholders, with the sample and both numbers.
    """
    items = [] if given is None else [given] if is_item(given) else list(given)
    if not all(map(is_item, items)):
        dealt = [list(sample) for sample in items]
    elif len(counts) == 1:
        dealt = [items]
    else:
        rest = iter(items)
        dealt = [list(itertools.islice(rest, count)) for count in counts]
        dealt[-1].extend(rest)
    if len(dealt) != len(counts):
        raise DataError(f"{len(counts)} texts and {kind}s for {len(dealt)}: give one list of {kind}s per text")
    for index, (held, count) in enumerate(zip(dealt, counts, strict=True)):
        if len(held) != count:
            raise DataError(f"sample {index}: {count} {kind} placeholders and {len(held)} {kind}s: give each its own")
    return dealt


def _media(messages: Sequence[dict[str, Any]], kind: str) -> Iterator[Any]:
    """What the parts of this kind hold, in order; a part that holds nothing is left to the count of placeholders."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") == kind:
                yield from [part[key] for key in (kind, "url", "path") if part.get(key) is not None][:1]
            elif part.get("type") == f"{kind}_url":
                url = part[f"{kind}_url"]
                yield url["url"] if isinstance(url, dict) else url


def _is_picture(value: Any) -> bool:
    return isinstance(value, (str, Path, Image.Image)) or getattr(value, "ndim", 0) == 3


def _is_video(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_is_picture(frame) and not isinstance(frame, (str, Path)) for frame in value)
    return isinstance(value, (str, Path)) or getattr(value, "ndim", 0) == 4


def _rgb(picture: Any) -> Image.Image:
    if isinstance(picture, (str, Path)):
        return open_picture(*_local(picture)).image
    if isinstance(picture, Image.Image):
        return to_rgb(picture, "in memory")
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise DataError(f"a picture in memory is {array.dtype} {list(array.shape)}: give uint8 [H, W, 3] or Pillow's")
    return Image.fromarray(array)


def _frames(video: Any, sampling: Sampling) -> np.ndarray:
    if isinstance(video, (str, Path)):
        return read_frames(*_local(video), sampling).rgb
    return stack_frames([np.asarray(_rgb(frame)) for frame in video])


def _local(path: str | Path) -> tuple[str, Path]:
    """A caller's own path as the safe reader takes it: the caller, unlike a data row, may name any folder."""
    if "://" in str(path) or str(path).startswith("data:"):
        raise DataError(
            f"{named(str(path))}: is an address; nothing is fetched: give a local path or the picture itself"
        )
    return Path(path).name, Path(path).parent
