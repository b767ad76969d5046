"""What each stage reads: **key of its configuration -> formats that may lie there**, and what the stages make.

The one list of the keys that name files and folders: of a `*` in a key each entry is meant, and of a key that holds
several paths each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal[
    "model", "conversations", "prompts", "pairs", "pictures", "media", "labels", "regions", "plan", "benchmark"
]
"""Hugging Face folder; rows of SFT or pre-training, rows with a checkable answer, preference pairs, rows that need no
more than `images`; folder of picture files; labels of pictures; regions of pictures; folder of `pangu-rl pack`; file of
a benchmark."""

_MODEL: dict[str, tuple[Format, ...]] = {"model.path": ("model",)}
_MEDIA: dict[str, tuple[Format, ...]] = {"data.media_root": ("media",)}
_QUERIES: dict[str, tuple[Format, ...]] = {"data.queries": ("prompts", "conversations")}
_CONVERSATIONS: dict[str, tuple[Format, ...]] = {"data.train": ("conversations",)}
_ALSO = "data.also.*.path"
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
    "sft": {**_MODEL, **_MEDIA, **_CONVERSATIONS, _ALSO: ("conversations",)},
    "difficulty": {**_MODEL, **_MEDIA, **_QUERIES},
    "pairs": {**_MODEL, **_MEDIA, **_QUERIES},
    "dpo": {**_MODEL, **_MEDIA, "data.train": ("pairs",), _ALSO: ("pairs",), "data.sft": ("conversations",)},
    "grpo": {**_MODEL, **_MEDIA, "data.train": ("prompts",), _ALSO: ("prompts",), "data.heldout": ("prompts",)},
    "iterative": {**_MODEL, **_MEDIA, **_QUERIES, "data.heldout": ("prompts",)},
    "eval": {**_MODEL, **_MEDIA, "data.sets": ("prompts",), "data.benchmarks.*.file": ("benchmark",)},
    "merge": {},
}
"""Kind of a stage -> its keys, whose files others make."""
BESIDE = (
    *("shape", "model.chat_template", "start.sft_config", "data.prompts", "data.benchmarks.*.definition"),
    *("stages.*.config", "evaluate.config", "input", "media_root"),
)
"""Of stages, pipelines, scorers and curation: what a user writes beside the configuration, or gives to it alone."""
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
    """Dotted, of one of several paths with its number or name."""
    path: str
    formats: tuple[Format, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a tree a path stands."""

    key: str
    """Dotted."""
    holder: Any
    """The mapping or list that has it."""
    index: str | int

    @property
    def value(self) -> str:
        return self.holder[self.index]


def inputs_of(stage: str, config: Any) -> Iterator[Input]:
    """Of a checked configuration; a key that holds several paths gives one for each, a null none."""
    tree = config.model_dump(mode="json")
    for key, formats in READS[stage].items():
        for place in places(tree, key):
            yield Input(key=place.key, path=place.value, formats=formats)


def places(tree: Any, key: str, above: str = "") -> Iterator[Place]:
    """Of the texts that stand at a dotted `key` of a configuration's tree, also of one that is not checked yet."""
    name, _, rest = key.partition(".")
    for one in _entries(tree) if name == "*" else [name] if isinstance(tree, Mapping) and name in tree else ():
        if rest:
            yield from places(tree[one], rest, f"{above}{one}.")
        elif not isinstance(tree[one], str):
            yield from (Place(f"{above}{one}.{index}", tree[one], index) for index in _texts(tree[one]))
        elif tree[one]:
            yield Place(f"{above}{one}", tree, one)


def format_of(output: str) -> Format:
    """Of a stage's output; a checkpoint of it (`step_29000`) is a model."""
    return _FORMATS.get(output, "model")


def _texts(node: Any) -> list[Any]:
    return [index for index in _entries(node) if isinstance(node[index], str) and node[index]]


def _entries(node: Any) -> list[Any]:
    """Names of a mapping's entries, numbers of a list's."""
    return list(node) if isinstance(node, Mapping) else list(range(len(node))) if isinstance(node, list) else []
