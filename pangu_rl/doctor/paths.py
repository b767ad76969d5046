"""What a stage's configuration names on disk: model, data, pictures, run directory, and the room that they take."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.checkpoint.step_folders import step_folders
from pangu_rl.config.names.hub import local_folder
from pangu_rl.config.names.named_files import is_here, may_be_of_hub, named_files, on_disk
from pangu_rl.config.paths import cache_root, is_address, resolve_path
from pangu_rl.errors import UserError
from pangu_rl.monitoring.findings import Finding

GIB = 2**30
MIN_FREE_GIB = 5
BYTES_PER_WEIGHT_BYTE = 8
"""A checkpoint over the bf16 weights: the exported model (1), fp32 weights (2) and two moments (4), and some."""
OBJECT_STORE_GIB = 1.0


def check_paths(config: BaseModel | None) -> Iterator[Finding]:
    """Every file and folder that the configuration names."""
    if config is None:
        root = cache_root()
        found = sorted(str(path.relative_to(root)) for path in root.glob("*/*") if path.is_dir())
        if found:
            yield Finding(check="cache", status="ok", detail=f"{root}: {', '.join(found[:8])}")
        else:
            yield Finding(check="cache", status="warn", detail=f"{root}: nothing prepared", mend="make setup")
        return
    model = getattr(config, "model", None)
    if model is not None:
        yield _model(_weights_folder(model.path))
    yield from (_path(key, value) for key, value in named_files(config).items() if model is None or key != "model.path")


def check_disk(config: BaseModel | None) -> Iterator[Finding]:
    """Room for the checkpoints of the run, or for anything at all."""
    trainer = getattr(config, "trainer", None)
    folder = _existing(resolve_path(trainer.run_dir) if trainer is not None else Path.cwd())
    needed = MIN_FREE_GIB * GIB
    if trainer is not None and hasattr(config, "learner"):
        # One more than are kept is there while the newest is written.
        count = getattr(trainer, "keep_checkpoints", 1) + len(getattr(trainer, "keep_steps", ())) + 1
        # Adapters are small; folded into their model, as stages that follow do, they take its size once.
        copies = 1 if getattr(config.learner, "lora", None) else BYTES_PER_WEIGHT_BYTE * count
        needed = weight_bytes(_weights_folder(config.model.path)) * copies
    free = shutil.disk_usage(folder).free
    text = f"{folder} has {free / GIB:.1f} GiB free, about {needed / GIB:.1f} are needed"
    if not os.access(folder, os.W_OK):
        yield Finding(check="disk", status="fail", detail=f"{folder} is not writable", mend="choose another run_dir")
    elif free < needed:
        mend = "make room, name another run_dir, or keep fewer checkpoints (trainer.keep_checkpoints)"
        yield Finding(check="disk", status="fail" if config is not None else "warn", detail=text, mend=mend)
    else:
        yield Finding(check="disk", status="ok", detail=text)


def shared_memory_needed(config: BaseModel | None) -> int:
    """Bytes of Ray's object store and of one copy of the weights."""
    cluster, model = getattr(config, "cluster", None), getattr(config, "model", None)
    store = cluster.object_store_gib if cluster is not None else OBJECT_STORE_GIB
    weights = weight_bytes(_weights_folder(model.path)) if model is not None and hasattr(config, "rollout") else 0
    return int(store * GIB) + weights


def weight_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors")) if model.is_dir() else 0


def _path(key: str, value: str) -> Finding:
    if is_address(value):
        return Finding(check="paths", status="ok", detail=f"{key}: {value}, which is looked for when the run starts")
    path = on_disk(value)
    exists = os.path.exists(path)  # no error where a text is too long for a path
    if is_here(key, value) and (not exists or os.access(path, os.R_OK)):
        return Finding(check="paths", status="ok", detail=f"{key}: {path if exists else value}")
    problem, mend = "cannot be read" if exists else "no such file or folder", f"correct {key}"
    if value.startswith("cache://"):
        mend = "make setup prepares cache:// paths"
    elif may_be_of_hub(key, value):
        problem, mend = f"{problem}, and not in the hub cache", f"hf download {value.partition('@')[0]}"
    return Finding(check="paths", status="fail", detail=f"{key} {value}: {problem}", mend=mend)


def _weights_folder(path: str) -> Path:
    """The model folder itself, of the hub cache, or the newest one of a run directory."""
    folder = local_folder(path)
    return next((model for step in reversed(step_folders(folder)) if (model := step / "hf").is_dir()), folder)


def _model(path: Path) -> Finding:
    try:
        found = model_config(path)
        missing = sorted(name for name in _shards(path) if not (path / name).is_file())
    except UserError as error:
        problem, _, mend = str(error).partition("; ")
        return Finding(check="model", status="fail", detail=problem, mend=mend or "name a Hugging Face model folder")
    if missing:
        detail = f"{path}: its index names {len(missing)} weight files that are not there, such as {missing[0]}"
        return Finding(check="model", status="fail", detail=detail, mend="copy the whole folder")
    if not any(path.glob("tokenizer*")):
        return Finding(check="model", status="fail", detail=f"{path}: no tokenizer in it", mend="copy the whole folder")
    size = f"{weight_bytes(path) / GIB:.2f} GiB"
    return Finding(check="model", status="ok", detail=f"{path}: {found.get('model_type', 'unknown type')}, {size}")


def _shards(path: Path) -> set[str]:
    index = path / "model.safetensors.index.json"
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    path = path.absolute()
    return next(parent for parent in (path, *path.parents) if parent.is_dir())
