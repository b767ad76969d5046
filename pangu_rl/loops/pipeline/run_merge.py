"""Model folders of one architecture -> **one folder with the weighted mean of their weights**, chunk by chunk.

An adapter is its base model with the adapter folded in, and may stand alone. Memory holds a tensor of each model,
mapped where it has no adapter, whatever the models' size. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pangu_rl.algorithms.merge import normalised, weighted_mean
from pangu_rl.checkpoint.adapter_folder import CONFIG, FoldedModel, open_model
from pangu_rl.checkpoint.alike import require_alike
from pangu_rl.checkpoint.model_folder import model_checksum, model_config
from pangu_rl.checkpoint.model_tensors import ModelTensors, TensorEntry
from pangu_rl.checkpoint.store import ADAPTER, MODEL
from pangu_rl.checkpoint.whole_folder import whole_folder
from pangu_rl.checkpoint.whole_model import write_like
from pangu_rl.errors import ConfigError, DataError

CHUNK = 1 << 19
"""Elements that are summed at once: 4 MiB of float64. Of larger pieces the heap keeps more than a model, once freed."""
PROVENANCE = "merge.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge was made of, as `merge.json` in its folder says."""

    inputs: tuple[dict[str, Any], ...]
    """`path` as given, `weight` over the sum of all, `checksum` of the model or the adapter, and of an adapter its
    `base`."""
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
        UserError: fewer than two folders that are no adapter, weights that do not fit, an `output` that exists, an
            adapter that cannot be folded, or models that are not of one architecture: other names, shapes, dtypes,
            settings, vocabularies.
    """
    shares = _shares(folders, weights)
    if output.exists():
        raise ConfigError(f"{output} exists already: name a new folder")
    models = [open_model(folder) for folder in folders]
    differences = require_alike(models, _config_meant)
    with whole_folder(output) as partial:
        written = write_like(models[0], partial, lambda entry: _mean(entry, models, shares))
        summary = Merged(
            inputs=tuple(
                {"path": str(folder), "weight": share, **_origin(model)}
                for folder, share, model in zip(folders, shares, models, strict=True)
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
    """What a user names -> folders of models and adapters: such a folder is itself, a checkpoint its `hf` or `adapter`,
    a run directory those of its `steps` (of all it keeps, by default).

    Raises:
        DataError: none of these, or a step that the run does not keep.
    """
    found: list[Path] = []
    for path in paths:
        if kept := _kept(path):
            found += _of_steps(path, kept, steps)
        elif below := [path / name for name in (MODEL, ADAPTER) if (path / name).is_dir()]:
            found += below
        else:
            if not (path / CONFIG).is_file():
                model_config(path, "merge")
            found.append(path)
    if steps and len(found) == len(paths) and not any(map(_kept, paths)):
        raise ConfigError(f"steps {', '.join(map(str, steps))}: no run directory is among the inputs")
    return found


def _kept(run_dir: Path) -> list[Path]:
    return sorted(path for name in (MODEL, ADAPTER) for path in run_dir.glob(f"checkpoints/step_*/{name}"))


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
        return AutoConfig.from_pretrained(path.parent, trust_remote_code=False).to_dict()
    except Exception:  # transformers raises its validators' own errors, of no common class
        return json.loads(path.read_text(encoding="utf-8"))


def _shares(folders: Sequence[Path], weights: Sequence[float] | None) -> list[float]:
    if len(folders) < 2 and not all((folder / CONFIG).is_file() for folder in folders):
        raise ConfigError(
            f"{len(folders)} model to merge: name two or more, a run directory that keeps several steps, or an adapter"
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


def _mean(entry: TensorEntry, models: Sequence[ModelTensors], shares: Sequence[float]) -> Iterator[Tensor]:
    tensors = [model.read(entry.name).flatten() for model in models]
    for start in range(0, entry.elements, CHUNK):
        try:
            yield weighted_mean([tensor[start : start + CHUNK] for tensor in tensors], shares)
        except ValueError as error:
            raise DataError(f"tensor {entry.name}: {error}") from None


def _origin(model: ModelTensors) -> dict[str, str]:
    if isinstance(model, FoldedModel):
        return {"checksum": model.checksum(), "base": str(model.folder)}
    return {"checksum": model_checksum(model.folder)}
