"""Model folders of one architecture -> **one folder with the weighted mean of their weights**, chunk by chunk.

Memory holds a chunk of one tensor, whatever the models' size. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pangu_rl.algorithms.merge import normalised, weighted_mean
from pangu_rl.checkpoint.alike import companions, require_alike
from pangu_rl.checkpoint.model_folder import model_checksum, model_config
from pangu_rl.checkpoint.model_tensors import ModelTensors, TensorEntry, write_index, write_shard
from pangu_rl.checkpoint.whole_folder import whole_folder
from pangu_rl.errors import ConfigError, DataError

CHUNK = 1 << 22
"""Elements that are summed at once: 32 MiB of float64."""
PROVENANCE = "merge.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge was made of, as `merge.json` in its folder says."""

    inputs: tuple[dict[str, Any], ...]
    """`path` as given, `weight` over the sum of all, `checksum` of the model."""
    tensors: int
    parameters: int
    checksum: str
    """Of the mean."""
    differences: tuple[str, ...]
    """Files beside the weights in which a model differs from the first, whose files the folder has."""


def merge(folders: Sequence[Path], output: Path, weights: Sequence[float] | None = None) -> Merged:
    """Write the mean of `folders` to `output`, a new folder; weights are equal by default and need no sum of 1.

    Configuration, tokenizer, template and processor are those of the first.

    Raises:
        UserError: fewer than two folders, weights that do not fit, an `output` that exists, or models that are not of
            one architecture: other names, shapes, dtypes, settings, vocabularies.
    """
    shares = _shares(folders, weights)
    if output.exists():
        raise ConfigError(f"{output} exists already: name a new folder")
    models = [ModelTensors(folder) for folder in folders]
    differences = require_alike(models, _config_meant)
    with whole_folder(output) as partial:
        written = {
            shard: write_shard(partial / shard, entries, _means(entries, models, shares))
            for shard, entries in models[0].shards.items()
        }
        if len(models[0].shards) > 1:
            write_index(partial, models[0].shards)
        _copy_companions(folders[0], partial)
        summary = Merged(
            inputs=tuple(
                {"path": str(folder), "weight": share, "checksum": model_checksum(folder)}
                for folder, share in zip(folders, shares, strict=True)
            ),
            tensors=len(models[0].entries),
            parameters=sum(entry.elements for entry in models[0].entries.values()),
            checksum=model_checksum(partial, written),
            differences=tuple(differences),
        )
        (partial / PROVENANCE).write_text(provenance(summary), encoding="utf-8")
    return summary


def provenance(summary: Merged) -> str:
    """The content of `merge.json`; no time and no host, so that one merge is one file."""
    tree = {name: getattr(summary, name) for name in Merged.__dataclass_fields__}
    return json.dumps(tree, indent=2) + "\n"


def model_folders(paths: Sequence[Path], steps: Sequence[int] | None = None) -> list[Path]:
    """What a user names -> model folders: a model folder is itself, a checkpoint its `hf`, a run directory those of its
    `steps` (of all it keeps, by default).

    Raises:
        DataError: none of these, or a step that the run does not keep.
    """
    found: list[Path] = []
    for path in paths:
        kept = sorted(path.glob("checkpoints/step_*/hf"))
        if kept:
            found += _of_steps(path, kept, steps)
        elif (path / "hf").is_dir():
            found.append(path / "hf")
        else:
            model_config(path)
            found.append(path)
    if steps and len(found) == len(paths) and not any(list(path.glob("checkpoints/step_*/hf")) for path in paths):
        raise ConfigError(f"steps {', '.join(map(str, steps))}: no run directory is among the inputs")
    return found


def _of_steps(run_dir: Path, kept: Sequence[Path], steps: Sequence[int] | None) -> list[Path]:
    numbers = [(path.parent.name.removeprefix("step_"), path) for path in kept]
    by_step = {int(number): path for number, path in numbers if number.isdecimal()}
    if missing := sorted(set(steps or ()) - by_step.keys()):
        raise DataError(
            f"{run_dir} keeps no checkpoint of step {missing[0]}: it has {', '.join(map(str, by_step))} "
            "(trainer.keep_checkpoints, trainer.checkpoint_every)"
        )
    return [by_step[step] for step in steps or by_step]


def _config_meant(path: Path) -> Any:
    """As the installed transformers reads it: versions write one configuration under other keys, and leave defaults
    out. One that it does not know is compared as it stands."""
    from transformers import AutoConfig

    from pretrain.auto import register_auto_classes

    register_auto_classes()
    try:
        return AutoConfig.from_pretrained(path.parent).to_dict()
    except Exception:  # transformers raises its validators' own errors, of no common class
        return json.loads(path.read_text(encoding="utf-8"))


def _shares(folders: Sequence[Path], weights: Sequence[float] | None) -> list[float]:
    if len(folders) < 2:
        raise ConfigError(
            f"{len(folders)} model to merge: name two or more, or a run directory that keeps several steps"
        )
    weights = [1.0] * len(folders) if weights is None else weights
    if len(weights) != len(folders):
        raise ConfigError(
            f"{len(weights)} weights for {len(folders)} models ({', '.join(map(str, folders))}): give one each"
        )
    try:
        return normalised(weights)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _means(entries: Sequence[TensorEntry], models: Sequence[ModelTensors], shares: Sequence[float]) -> Iterator[Tensor]:
    for entry in entries:
        tensors = [model.read(entry.name).flatten() for model in models]
        for start in range(0, entry.elements, CHUNK):
            try:
                yield weighted_mean([tensor[start : start + CHUNK] for tensor in tensors], shares)
            except ValueError as error:
                raise DataError(f"tensor {entry.name}: {error}") from None


def _copy_companions(source: Path, target: Path) -> None:
    for file in (source / "config.json", *companions(source)):
        shutil.copyfile(file, target / file.name)
