"""A run directory in the place of a model folder: **the model that the run made**, so that a stage starts where one
ended."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TypeVar

from pangu_rl.checkpoint.store import ADAPTER, MODEL, CheckpointStore, check_model
from pangu_rl.config.names.hub import cached, fetched, is_hub_id
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import DataError

log = logging.getLogger(__name__)

Stage = TypeVar("Stage")
MADE = "model"
"""Folder of a run that makes its model at once: assembled, or a mean."""
MANIFEST = "manifest.json"


def model_of(path: Path, key: str = "model.path") -> Path:
    """`path` itself, or the model in it: of a run's newest checkpoint, of its last round, what it assembled; of a
    checkpoint. `key` is what names it, for errors.

    Raises:
        DataError: the run has made none yet. CheckpointError: its newest checkpoint is corrupt.
    """
    if (path / "config.json").exists() or not path.is_dir():
        return path
    from pangu_rl.checkpoint.whole_model import whole_model  # torch is not for those who only name a folder

    for made in (MADE, MODEL):
        if (path / made / "config.json").exists():
            return path / made
    if (path / ADAPTER).is_dir():
        return whole_model(path)
    if (round_made := _of_last_round(path)) is not None:
        return round_made
    if not (path / "config.yaml").exists():
        return path
    newest = CheckpointStore(path, 1).latest(check_model)
    if newest is None:
        raise DataError(f"{key} {path} is a run without a checkpoint: run that stage to its end first")
    log.info("starting from step %d of %s", newest.step, path)
    return whole_model(newest.path)


def named_model(path: str, key: str = "model.path") -> Path:
    """The folder of what a configuration or a command names: a model folder, a run or a name on the hub.

    Raises:
        UserError: as `model_of`; a name on the hub that is not in the cache and cannot be fetched.
    """
    return fetched(path, key) if is_hub_id(path) else model_of(resolve_path(path), key)


def known_model(path: str, key: str = "model.path") -> Path:
    """As `named_model`, for those who only look: nothing is fetched, and a name on the hub that is not in the cache is
    a folder that is not there."""
    return cached(path) or Path(path) if is_hub_id(path) else model_of(resolve_path(path), key)


def with_start(config: Stage) -> Stage:
    """The configuration of a stage with `named_model` of its `model.path`; raises as that and `refuse_missing_run`."""
    refuse_missing_run(config.model.path, config.trainer.run_dir)
    found = named_model(config.model.path)
    if found == resolve_path(config.model.path):
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"path": str(found)})})


def refuse_missing_run(path: str, run_dir: str, key: str = "model.path") -> None:
    """`runs/sft` may be a name on the hub; beside a `run_dir` of `runs/dpo` it is a run. Beside `runs/all/dpo`, a stage
    of the pipeline `runs/all`, it is none: what stages make lies in the folder of the pipeline.

    Raises:
        DataError: `path` begins with the folder that `run_dir` begins with, and is neither there nor in the hub cache,
            nor one that may be fetched.
    """
    named, run = Path(path), Path(run_dir)
    begins_alike = min(len(named.parts), len(run.parts)) > 1 and named.parts[0] == run.parts[0]
    if not begins_alike or named.parts[0] in (named.anchor, "..") or named.exists():
        return
    way_out = "run that stage first, or name a model that is there"
    if is_hub_id(path):
        if run.parent not in named.parents or cached(path):
            return
        way_out += f"; the hub's {path} is fetched where run_dir does not begin with {run.parent}"
    absent = next(step for step in [*reversed(named.parents), named][2:] if not step.exists())
    raise DataError(
        f"{key} {path}: the run of an earlier stage, by its place beside run_dir {run_dir}, and {absent} is not there: "
        f"{way_out}"
    )


def _of_last_round(path: Path) -> Path | None:
    """Of a run of iterative fine-tuning, whose manifest names it."""
    try:
        made = json.loads((path / MANIFEST).read_text(encoding="utf-8")).get("model")
    except (OSError, ValueError, AttributeError):
        return None
    return path / made if isinstance(made, str) and (path / made / "config.json").exists() else None
