"""What each stage reads: **key of its configuration -> formats that may lie there**, and what the stages make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["model", "conversations", "prompts", "pairs", "pictures", "media", "labels", "regions", "plan"]
"""Hugging Face folder; rows of SFT or pre-training, rows with a checkable answer, preference pairs, rows that need no
more than `images`; folder of picture files; labels of pictures; regions of pictures; folder of `pangu-rl pack`."""

_MODEL: dict[str, tuple[Format, ...]] = {"model.path": ("model",)}
_MEDIA: dict[str, tuple[Format, ...]] = {"data.media_root": ("media",)}
_QUERIES: dict[str, tuple[Format, ...]] = {"data.queries": ("prompts", "conversations")}
_CONVERSATIONS: dict[str, tuple[Format, ...]] = {"data.train": ("conversations",)}
_PART: tuple[Format, ...] = ("model",)

READS: dict[str, dict[str, tuple[Format, ...]]] = {
    "assemble": {"encoder": _PART, "connector": _PART, "language": _PART, "tokenizer": _PART, "processor": _PART},
    "vit": {
        **_MODEL,
        **_MEDIA,
        "data.train": ("pictures", "conversations", "prompts"),
        "data.labels": ("labels",),
        "regions.file": ("regions",),
    },
    "pack": {**_MODEL, **_MEDIA, **_CONVERSATIONS},
    "pretrain": {**_MODEL, **_MEDIA, **_CONVERSATIONS, "data.plan": ("plan",)},
    "sft": {**_MODEL, **_MEDIA, **_CONVERSATIONS},
    "difficulty": {**_MODEL, **_MEDIA, **_QUERIES},
    "pairs": {**_MODEL, **_MEDIA, **_QUERIES},
    "dpo": {**_MODEL, **_MEDIA, "data.train": ("pairs",), "data.sft": ("conversations",)},
    "grpo": {**_MODEL, **_MEDIA, "data.train": ("prompts",), "data.heldout": ("prompts",)},
    "iterative": {**_MODEL, **_MEDIA, **_QUERIES, "data.heldout": ("prompts",)},
    "eval": {**_MODEL, **_MEDIA, "data.sets": ("prompts",)},
    "merge": {},
}
"""Kind of a stage -> its keys."""
OUTPUTS: dict[str, tuple[str, ...]] = {
    "difficulty": ("prompts", "left_out"),
    "pairs": ("pairs",),
    "pack": ("plan",),
    "eval": (),
}
"""What a stage makes for others; every other one makes a `model`."""
_FORMATS: dict[str, Format] = {"prompts": "prompts", "left_out": "prompts", "pairs": "pairs", "plan": "plan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A path that a stage's configuration names."""

    key: str
    path: str
    formats: tuple[Format, ...]


def inputs_of(stage: str, config: Any) -> Iterator[Input]:
    """Of a checked configuration; a key that holds several paths gives one for each, a null none."""
    for key, formats in READS[stage].items():
        for path in _paths(_value(config, key)):
            yield Input(key=key, path=path, formats=formats)


def format_of(output: str) -> Format:
    """Of a stage's output; a checkpoint of it (`step_29000`) is a model."""
    return _FORMATS.get(output, "model")


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name, None)
    return config


def _paths(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value or ())
