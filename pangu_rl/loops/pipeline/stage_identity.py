"""What decides the result of a pipeline's stage: **its settings, its files, what it takes from other stages**.

Two runs of equal identity make the same; where a stage runs, how often it saves and how it is watched is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.model_folder import model_checksum, model_config, weight_files
from pangu_rl.config.paths import is_address, resolve_path
from pangu_rl.config.pipelines.node import MODEL_PATH, Node
from pangu_rl.errors import DataError
from pangu_rl.loops.free_keys import FREE
from pangu_rl.loops.pictures import picture_lines
from pangu_rl.loops.pipeline.kept_digests import KeptDigests

ROWS = ("train", "also", "heldout", "queries", "sft", "plan")
"""Keys of `data` that name files of rows."""
ELSEWHERE = ("data.media_root", "data.reference")
"""Of the first only what rows name is read; the second is made by the stage itself."""
DIGESTS = KeptDigests()
"""Of files of rows and weights; pictures are read at every start."""


def identity(node: Node, config: Any) -> dict[str, Any]:
    """`config` (settings), `data` (key -> path as named, sha256) and `inputs` (key -> where from) of a stage other
    than a merge; `config` is the resolved one. The checksums of what it takes are added when they are known.

    Raises:
        DataError: a file of rows or a model folder that is not there.
    """
    tree = config.model_dump(mode="json", exclude=FREE)
    inputs: dict[str, Any] = {key: {"from": str(source)} for key, source in node.takes.items()}
    files = {key: value for key, value in _texts(tree) if key not in node.takes and key not in ELSEWHERE}
    if MODEL_PATH in files:
        named = files.pop(MODEL_PATH)
        model_config(resolve_path(named))
        inputs[MODEL_PATH] = {"path": named, "checksum": folder_checksum(resolve_path(named))}
    for key, value in files.items():
        if _names_rows(key) and not resolve_path(value).exists():
            raise DataError(f"{node.name}: {key} {value}: no such file")
    data = {key: {"path": value, "sha256": digest} for key, value in files.items() if (digest := _digest(value))}
    if pictures := _pictures(config, [value for key, value in files.items() if _names_rows(key)]):
        data["pictures"] = pictures
    return {"stage": node.stage, "config": _without(tree, {*inputs, *data}), "data": data, "inputs": inputs}


def settings_hash(tree: Any) -> str:
    """sha256 of JSON values, hex."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@cache
def folder_checksum(path: Path) -> str:
    """`model_checksum`, once a process: a folder that is whole does not change while a pipeline runs."""
    return model_checksum(path, DIGESTS.entries(weight_files(path)))


@cache
def file_sha256(path: Path) -> str:
    """Of a file, or of a folder's files with their names; once a process."""
    if path.is_file():
        return DIGESTS.sha256(path)
    names = sorted(file for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{file.relative_to(path).as_posix()}\t{file_sha256(file)}\n" for file in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def _texts(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value of every text; entries of lists by their number."""
    if isinstance(tree, str):
        yield prefix, tree
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _texts(value, f"{prefix}.{key}" if prefix else str(key))


def _names_rows(key: str) -> bool:
    section, name, *_ = [*key.split("."), ""]
    return section == "data" and name in ("sets", *ROWS)


def _digest(value: str) -> str | None:
    """Of what a text of the configuration names on disk (of `file.py:function` the file); None if it names nothing."""
    file, _, _ = value.partition(":") if ".py:" in value else (value, "", "")
    if "/" not in file and "." not in file:
        return None
    return file_sha256(resolve_path(file)) if resolve_path(file).exists() else None


def _pictures(config: Any, rows: list[str]) -> dict[str, Any] | None:
    root = getattr(getattr(config, "data", None), "media_root", None)
    files = [path for path in map(resolve_path, rows) if path.is_file()]
    if root is None or not files:
        return None
    if is_address(root):  # none is fetched before it is due
        return {"path": root}
    renamed = tuple(getattr(config.data, "columns", {}).items())
    digests = [_pictures_of(path, resolve_path(root), renamed) for path in files]
    return {"path": root, "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest()}


@cache
def _pictures_of(rows: Path, root: Path, renamed: tuple[tuple[str, str], ...]) -> str:
    digest = hashlib.sha256()
    for line in picture_lines(rows, root, renamed):
        digest.update(line.encode())
    return digest.hexdigest()


def _without(tree: Any, keys: set[str], prefix: str = "") -> Any:
    """The tree without the values at the dotted `keys`, whose files stand for them."""
    items = dict(tree) if isinstance(tree, Mapping) else dict(enumerate(tree)) if isinstance(tree, list) else None
    if items is None:
        return tree
    kept = {
        key: _without(value, keys, dotted)
        for key, value in items.items()
        if (dotted := f"{prefix}.{key}" if prefix else str(key)) not in keys
    }
    return kept if isinstance(tree, Mapping) else list(kept.values())
