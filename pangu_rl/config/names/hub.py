"""A model's name on the Hugging Face hub -> **its folder in the local hub cache**, downloaded where that is allowed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?")
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py")
_UNWANTED = ("*/*",)
"""Folders of a repository hold the same weights in other forms."""


def is_hub_id(path: str) -> bool:
    """Whether `path` is no place on this disk and looks like `Qwen/Qwen2.5-0.5B-Instruct`, or with a revision behind
    `@`."""
    return _ID.fullmatch(path) is not None and not Path(path).exists()


def cached(name: str) -> Path | None:
    """The folder of the model `name` in the hub cache, if all its files are there; nothing is asked of the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError):
        return None
    return folder if _is_whole(folder) else None


def fetched(name: str, key: str = "model.path") -> Path:
    """As `cached`, or downloaded into the cache, unless `HF_HUB_OFFLINE` forbids it; `key` is what names it.

    Raises:
        ConfigError: it is not in the cache and cannot be fetched; with the command that does.
    """
    if (folder := cached(name)) is not None:
        return folder
    from huggingface_hub import constants, snapshot_download

    repository, _, revision = name.partition("@")
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    absent = f"{key} {name}: no such folder, and no such model in the hub cache {constants.HF_HUB_CACHE}"
    if is_offline():
        raise ConfigError(f"{absent}, and HF_HUB_OFFLINE forbids to fetch it: run `{command}` where there is a network")
    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED)
        )
    except Exception as error:  # of the network, of the hub's answer, of the disk: all end in the same way out
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"{absent}, and fetching it failed ({said}): try `{command}`") from None
    return Path(folder)


def local_folder(path: str) -> Path:
    """Of a model folder or a name on the hub: where it lies on this machine, or would; nothing is fetched."""
    return (is_hub_id(path) and cached(path)) or resolve_path(path)


def is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _is_whole(folder: Path) -> bool:
    """A download that was cut short lacks its configuration or weights."""
    index = folder / "model.safetensors.index.json"
    if not (folder / "config.json").exists():
        return False
    if not index.exists():
        return any(folder.glob("*.safetensors"))
    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / name).exists() for name in shards)
