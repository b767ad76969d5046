"""A stage's configuration -> **the files and folders that it names and needs**, by the keys that name them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pangu_rl.config.inputs import BESIDE, READS, Place, places
from pangu_rl.config.names.hub import cached, is_hub_id
from pangu_rl.config.names.share_names import rename_shares, train_entries
from pangu_rl.config.names.shipped import beside
from pangu_rl.config.paths import CACHE_SCHEME, is_address, resolve_path
from pangu_rl.config.sections.scorers import FILES

_KEYS = tuple(dict.fromkeys((*(key for reads in READS.values() for key in reads), *BESIDE)))
_MODELS = {key for reads in READS.values() for key, formats in reads.items() if "model" in formats} | {"shape"}
"""What may be a name on the hub."""
_ASSEMBLY = {"shape", *READS["assemble"]}
"""Keys of a configuration without `model`: `shape` of a vision stage is no folder."""


def named(config: Any) -> dict[str, str]:
    """Dotted key -> path, or `path/to/file.py:function`, as it is written; a stage's own outputs are none of them."""
    return {place.key: place.value for place in _places(config.model_dump(mode="json"))}


def named_files(config: Any) -> dict[str, str]:
    """The same, of a function its file."""
    return {key: file_of(value) for key, value in named(config).items()}


def missing_files(config: Any) -> list[str]:
    """`key path` of each that is not on this machine."""
    files = named_files(config).items()
    return [f"{key} {path}" for key, path in files if not is_address(path) and not is_here(key, path)]


def take_beside(tree: dict[str, Any], folder: Path) -> None:
    """Let relative paths of a configuration's `tree`, in place, that are not in the working directory and lie in the
    `folder` of the configuration, or among the shipped ones, be those there."""
    entries = train_entries(tree)
    for place in _places(tree):
        path = file_of(place.value)
        if not _is_relative(path) or _exists(path):
            continue
        found = (candidate for candidate in beside(place.value, folder) if _exists(file_of(str(candidate))))
        place.holder[place.index] = str(next(found, place.value))
    rename_shares(tree, entries)


def on_disk(path: str) -> Path:
    """The file that is to be there: of an entry of a `dataset_info.json` that file."""
    found = resolve_path(path)
    return found.with_name(found.name.partition("#")[0]) if ".json#" in found.name else found


def is_here(key: str, path: str) -> bool:
    """Whether what `key` names is on this machine, on its disk or in its hub cache."""
    return _exists(path) or (may_be_of_hub(key, path) and cached(path) is not None)


def may_be_of_hub(key: str, path: str) -> bool:
    """Whether `path` is the name of a model on the hub, at a `key` that takes one."""
    return key in _MODELS and is_hub_id(path)


def file_of(value: str) -> str:
    """`path/to/file.py` of `path/to/file.py:function`; any other path as it is."""
    file, separator, _ = value.rpartition(":")
    return file if separator and file.endswith(".py") else value


def travelling(config: Any) -> list[str]:
    """Paths that are relative to the working directory, which a job gets a copy of."""
    files = named_files(config).items()
    return [path for key, path in files if _is_relative(path) and not may_be_of_hub(key, path)]


def _exists(path: str) -> bool:
    """A text that is too long for a path is none that is there."""
    return os.path.exists(on_disk(path))


def _is_relative(path: str) -> bool:
    return not (path.startswith((CACHE_SCHEME, "~")) or is_address(path) or Path(path).is_absolute())


def _places(tree: Mapping[str, Any]) -> Iterator[Place]:
    """Of a configuration's tree, also of one that is not checked yet."""
    for key in _KEYS:
        if key not in _ASSEMBLY or "model" not in tree:
            yield from places(tree, key)
    for key in ("rewards.functions.*.name", "operators.*.name"):
        yield from (place for place in places(tree, key) if file_of(place.value) != place.value)
    for place in places(tree, "rewards.functions.*.name"):
        if place.value in FILES:
            yield from places(place.holder, "args.config", place.key.removesuffix("name"))
