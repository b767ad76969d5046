"""A Hugging Face model folder as the user names it: is it one at all, before anything heavy looks into it?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.errors import DataError

COMPANIONS = (
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""Files beside config and weights that make a folder one that can be prompted: tokenizer, template, processor."""


def model_config(path: Path) -> dict[str, Any]:
    """`config.json` of the model folder `path`, which also holds weights.

    Raises:
        DataError: no such folder, no configuration that can be read, or no weights in it.
    """
    if not path.is_dir():
        raise DataError(f"model.path {path}: no such folder; `make setup` prepares the cache:// models")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"model.path {path}: no config.json in it; give a Hugging Face model folder") from None
    except ValueError as error:
        raise DataError(f"model.path {path}: its config.json is not JSON: {error}") from None
    if not any(path.glob("*.safetensors")):
        raise DataError(f"model.path {path}: no weights, the folder has no .safetensors file")
    return config


def model_checksum(path: Path, known: Mapping[str, Entry] = MappingProxyType({})) -> str:
    """sha256 over names and bytes of the folder's weights and `config.json`, hex: another one is another model.

    Files that are `known`, by name, are not read.
    """
    files = sorted([*path.glob("*.safetensors"), path / "config.json"])
    with ThreadPoolExecutor() as threads:
        digests = list(
            threads.map(lambda file: known[file.name].sha256 if file.name in known else _sha256(file), files)
        )
    lines = (f"{file.name}\t{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
