"""What decides the result of a pipeline's stage: **its settings, its files, what it takes from other stages**.

Two runs of equal identity make the same; where a stage runs, how often it saves and how it is watched is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.model_folder import model_checksum, model_config, weight_files
from pangu_rl.config.inputs import inputs_of
from pangu_rl.config.names.named_files import file_of, may_be_of_hub, named
from pangu_rl.config.paths import is_address, resolve_path
from pangu_rl.config.pipelines.node import MODEL_PATH, Node
from pangu_rl.errors import DataError
from pangu_rl.loops.free_keys import FREE
from pangu_rl.loops.pictures import picture_lines
from pangu_rl.loops.pipeline.kept_digests import KeptDigests
from pangu_rl.loops.row_files import row_files

DIGESTS = KeptDigests()
"""Of files of rows and weights; pictures are read at every start."""
ROWS = {"conversations", "prompts", "pairs", "pictures"}


def identity(node: Node, config: Any) -> dict[str, Any]:
    """`config` (settings), `data` (key -> path as named, sha256) and `inputs` (key -> where from) of a stage other
    than a merge; `config` is the resolved one. The checksums of what it takes are added when they are known.

    Raises:
        DataError: a file or folder that is not there.
    """
    tree = config.model_dump(mode="json", exclude=FREE)
    inputs: dict[str, Any] = {key: {"from": str(source)} for key, source in node.takes.items()}
    files = {key: value for key, value in named(config).items() if key not in node.takes}
    formats = {one.key: set(one.formats) for one in inputs_of(node.stage, config)}
    if MODEL_PATH in files:
        path = files.pop(MODEL_PATH)
        model_config(resolve_path(path))
        inputs[MODEL_PATH] = {"path": path, "checksum": folder_checksum(resolve_path(path))}
    digests = {key: _digest(node, key, value) for key, value in files.items() if "media" not in formats.get(key, ())}
    data = {key: {"path": files[key], "sha256": digest} for key, digest in digests.items() if digest}
    rows = [value for key, value in files.items() if ROWS & formats.get(key, set())]
    if pictures := _pictures(config, rows):
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


def _digest(node: Node, key: str, value: str) -> str | None:
    """Of the file or folder that `value` names; None of one that is not fetched yet, whose name alone counts."""
    name = file_of(value)
    files = row_files(name)
    gone = [file for file in files if not file.exists()]
    if gone and (is_address(name) or may_be_of_hub(key, name)):
        return None
    if gone:
        raise DataError(f"{node.name}: {key} {value}: no such file" + ("" if len(files) == 1 else f" as {gone[0]}"))
    digests = [file_sha256(file) for file in files]
    return digests[0] if len(files) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _pictures(config: Any, rows: list[str]) -> dict[str, Any] | None:
    root = getattr(getattr(config, "data", None), "media_root", None)
    files = [path for path in (row_files(name)[-1] for name in rows) if path.is_file()]
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
