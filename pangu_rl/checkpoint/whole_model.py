"""A checkpoint's model for whoever loads a whole one: `hf/` as it is, an adapter **folded into its base model** once.

checkpoints/step_000012/hf                              a model that was trained itself
checkpoints/step_000012/adapter  ->  folded/step_000012    an adapter: W + scale B A in a folder of its own
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from pangu_rl.checkpoint.adapter_folder import FoldedModel
from pangu_rl.checkpoint.alike import companions
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.model_tensors import ModelTensors, TensorEntry, write_index, write_shard
from pangu_rl.checkpoint.store import ADAPTER, FOLDED, MODEL
from pangu_rl.checkpoint.whole_folder import whole_folder
from pangu_rl.errors import RunError


def whole_model(checkpoint: Path) -> Path:
    """The folder of the model in `checkpoint`, a step's folder of a run's checkpoints.

    Raises:
        DataError: its adapter's base model is not where it was.
    """
    adapter = checkpoint / ADAPTER
    if not adapter.is_dir():
        return checkpoint / MODEL
    output = checkpoint.parent.parent / FOLDED / checkpoint.name
    if not output.is_dir():
        model = FoldedModel(adapter)
        try:
            with whole_folder(output) as partial:
                write_like(model, partial, lambda entry: [model.read(entry.name)])
        except RunError:
            if not output.is_dir():  # else another stage has made it meanwhile
                raise
    return output


def write_like(
    model: ModelTensors, folder: Path, values: Callable[[TensorEntry], Iterable[Tensor]]
) -> dict[str, Entry]:
    """Fill `folder` with the files of `model`, its shards with other `values` of each tensor, which come in chunks;
    returns what the shards hash to."""
    written = {
        shard: write_shard(folder / shard, entries, (chunk for entry in entries for chunk in values(entry)))
        for shard, entries in model.shards.items()
    }
    if len(model.shards) > 1:
        write_index(folder, model.shards)
    for file in (model.folder / "config.json", *companions(model.folder)):
        shutil.copyfile(file, folder / file.name)
    return written
