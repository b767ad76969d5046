"""A stage's configuration -> **the files and folders that it names and needs**, by the keys that name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pangu_rl.config.paths import CACHE_SCHEME, resolve_path

_ROWS = ("train", "heldout", "queries", "sft", "plan", "labels", "prompts", "media_root", "sets")
_KEYS = frozenset({"model.path", "model.chat_template", "start.sft_config", *(f"data.{name}" for name in _ROWS)})


def named_files(config: Any) -> dict[str, str]:
    """Dotted key -> path as it is written; a stage's own outputs are none of them."""
    tree = config.model_dump(mode="json")
    found = dict(_under(tree, ""))
    for index, function in enumerate((tree.get("rewards") or {}).get("functions") or ()):
        file, separator, _ = function["name"].rpartition(":")
        if separator and file.endswith(".py"):
            found[f"rewards.functions.{index}.name"] = file
    return found


def missing_files(config: Any) -> list[str]:
    """`key path` of each that is not on this machine."""
    return [f"{key} {path}" for key, path in named_files(config).items() if not on_disk(path).exists()]


def on_disk(path: str) -> Path:
    """The file that is to be there: of an entry of a `dataset_info.json` that file."""
    found = resolve_path(path)
    return found.with_name(found.name.partition("#")[0]) if ".json#" in found.name else found


def travelling(config: Any) -> list[str]:
    """Paths that are relative to the working directory, which a job gets a copy of."""
    paths = named_files(config).values()
    return [path for path in paths if not path.startswith((CACHE_SCHEME, "~")) and not Path(path).is_absolute()]


def _under(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in _KEYS and value:
            many = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
            yield from ((f"{name}.{which}", path) for which, path in many)
            if isinstance(value, str):
                yield name, value
        elif name == "data.also":
            yield from ((f"{name}.{index}.path", file["path"]) for index, file in enumerate(value))
        elif isinstance(value, Mapping):
            yield from _under(value, f"{name}.")
