"""A stage's configuration -> **the files and folders that it names and needs**, by the keys that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.config.names.hub import cached, is_hub_id
from pangu_rl.config.names.share_names import rename_shares, train_entries
from pangu_rl.config.names.shipped import beside
from pangu_rl.config.paths import CACHE_SCHEME, is_address, resolve_path
from pangu_rl.config.sections.scorers import FILES

_ROWS = ("train", "heldout", "queries", "sft", "plan", "labels", "prompts", "media_root", "sets")
_PARTS = ("shape", "encoder", "connector", "language", "tokenizer", "processor")
_KEYS = frozenset(
    {"model.path", "model.chat_template", "start.sft_config", *(f"data.{name}" for name in _ROWS), *_PARTS}
)
_MODELS = frozenset({"model.path", *_PARTS})
"""What may be a name on the hub."""
_NODE_CONFIG = re.compile(r"stages\..+\.config|evaluate\.config")
"""Of a pipeline."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a tree a path stands."""

    key: str
    """Dotted."""
    holder: Any
    """The mapping or list that has it."""
    index: str | int

    @property
    def value(self) -> str:
        return self.holder[self.index]


def named_files(config: Any) -> dict[str, str]:
    """Dotted key -> path as it is written; a stage's own outputs are none of them."""
    return {place.key: _file_of(place.value) for place in _places(config.model_dump(mode="json"))}


def missing_files(config: Any) -> list[str]:
    """`key path` of each that is not on this machine."""
    named = named_files(config).items()
    return [f"{key} {path}" for key, path in named if not is_address(path) and not _is_here(key, path)]


def take_beside(tree: dict[str, Any], folder: Path) -> None:
    """Let relative paths of a configuration's `tree`, in place, that are not in the working directory and lie in the
    `folder` of the configuration, or among the shipped ones, be those there."""
    entries = train_entries(tree)
    for place in _places(tree):
        path = _file_of(place.value)
        if not _is_relative(path) or on_disk(path).exists():
            continue
        found = (candidate for candidate in beside(place.value, folder) if on_disk(_file_of(str(candidate))).exists())
        place.holder[place.index] = str(next(found, place.value))
    rename_shares(tree, entries)


def on_disk(path: str) -> Path:
    """The file that is to be there: of an entry of a `dataset_info.json` that file."""
    found = resolve_path(path)
    return found.with_name(found.name.partition("#")[0]) if ".json#" in found.name else found


def travelling(config: Any) -> list[str]:
    """Paths that are relative to the working directory, which a job gets a copy of."""
    named = named_files(config).items()
    return [path for key, path in named if _is_relative(path) and not (key in _MODELS and is_hub_id(path))]


def _is_here(key: str, path: str) -> bool:
    return on_disk(path).exists() or (key in _MODELS and is_hub_id(path) and cached(path) is not None)


def _is_relative(path: str) -> bool:
    return not (path.startswith((CACHE_SCHEME, "~")) or is_address(path) or Path(path).is_absolute())


def _places(tree: Mapping[str, Any]) -> Iterator[_Place]:
    """Of a configuration's tree, also of one that is not checked yet."""
    found = [*_under(tree, ""), *_of_rewards(tree)]
    return (place for place in found if isinstance(place.value, str) and place.value)


def _under(tree: Mapping[str, Any], prefix: str) -> Iterator[_Place]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in _KEYS or _NODE_CONFIG.fullmatch(name):
            many = value.keys() if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()
            yield from (_Place(f"{name}.{index}", value, index) for index in many)
            if not isinstance(value, (Mapping, list)):
                yield _Place(name, tree, key)
        elif name == "data.also" and isinstance(value, list):
            files = [(index, file) for index, file in enumerate(value) if isinstance(file, Mapping) and "path" in file]
            yield from (_Place(f"{name}.{index}.path", file, "path") for index, file in files)
        elif name == "data.benchmarks" and isinstance(value, Mapping):
            files = [(index, file) for index, file in value.items() if isinstance(file, Mapping)]
            for key in ("definition", "file"):
                yield from (_Place(f"{name}.{index}.{key}", file, key) for index, file in files if key in file)
        elif isinstance(value, Mapping):
            yield from _under(value, f"{name}.")


def _of_rewards(tree: Mapping[str, Any]) -> Iterator[_Place]:
    """Files of functions, and of scorers."""
    rewards = tree.get("rewards")
    functions = rewards.get("functions") if isinstance(rewards, Mapping) else None
    for index, function in enumerate(functions if isinstance(functions, list) else ()):
        if not isinstance(function, Mapping):
            continue
        name, args = str(function.get("name", "")), function.get("args")
        if _file_of(name) != name:
            yield _Place(f"rewards.functions.{index}.name", function, "name")
        if name in FILES and isinstance(args, Mapping) and "config" in args:
            yield _Place(f"rewards.functions.{index}.args.config", args, "config")


def _file_of(value: str) -> str:
    """`path/to/file.py` of `path/to/file.py:function`; any other path as it is."""
    file, separator, _ = value.rpartition(":")
    return file if separator and file.endswith(".py") else value
