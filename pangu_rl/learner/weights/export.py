"""Weights -> **a model folder in Hugging Face layout** -> whoever loads it, vLLM included.

The folder is planned from shapes alone, then filled tensor by tensor in the plan's order.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.model_folder import COMPANIONS, GENERATION
from pangu_rl.checkpoint.model_tensors import INDEX, write_index, write_shard
from pangu_rl.learner.weights.checkpoint_names import Unit, as_checkpoint, plan_units, sources_of
from pangu_rl.learner.weights.tensors import Named
from pangu_rl.whole_file import whole_file

SHARD_BYTES = 5 << 30
"""Of one file, unless a single tensor is larger."""
WHOLE = "model.safetensors"

Plan = dict[str, list[Unit]]
"""File name -> what it holds, in the order of writing."""


def plan_export(lm: PreTrainedModel, described: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> Plan:
    """The files of a checkpoint of `lm`, whose tensors are `described` on the meta device.

    One file if all fit into `shard_bytes`, otherwise shards in the model's order. Within a file wider dtypes come
    first, then names count, as the safetensors library has it.
    """
    shards: list[list[Unit]] = [[]]
    for unit in plan_units(lm, described):
        if shards[-1] and sum(other.bytes for other in shards[-1]) + unit.bytes > shard_bytes:
            shards.append([])
        shards[-1].append(unit)
    names = [WHOLE] if len(shards) == 1 else [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in _from_1(shards)]
    return {name: sorted(shard, key=_place_in_file) for name, shard in zip(names, shards, strict=True)}


def planned_names(plan: Plan) -> list[str]:
    """The model's tensors in the order in which `write_model` takes them."""
    return sources_of(itertools.chain.from_iterable(plan.values()))


def write_model(
    directory: Path, lm: PreTrainedModel, plan: Plan, weights: Iterable[Named], source: Path
) -> dict[str, Entry]:
    """Write `lm` with `weights`, which come as `planned_names`, and the tokenizer and processor of the folder `source`.

    Every file appears whole, the index last. Returns what the files of weights hash to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for pattern in (INDEX, "model*.safetensors", ".model*.partial"):
        for stale in directory.glob(pattern):
            stale.unlink()
    _save_configurations(directory, lm, source)
    stream, written = iter(weights), {}
    for name, units in plan.items():
        entries = [entry for unit in units for entry in unit.entries]
        with whole_file(directory / name) as partial:
            written[name] = write_shard(partial, entries, map(_on_host, as_checkpoint(lm, units, stream)))
    if len(plan) > 1:
        write_index(directory, {name: [e for unit in units for e in unit.entries] for name, units in plan.items()})
    for pattern in COMPANIONS:
        for file in source.glob(pattern):
            shutil.copy(file, directory)
    return written


def _save_configurations(directory: Path, lm: PreTrainedModel, source: Path) -> None:
    """The generation config of `source` as it is: many a published one holds what transformers refuses to save."""
    own, kept = lm.generation_config, source / GENERATION
    published = kept.read_bytes() if kept.is_file() else None
    try:
        if own is not None:
            lm.generation_config = type(own)()
        lm.save_pretrained(directory, state_dict={})  # without tensors transformers writes no weights
    finally:
        lm.generation_config = own
    if published is not None:
        (directory / GENERATION).write_bytes(published)
    elif own is not None and (directory / GENERATION).is_file():
        own.save_pretrained(directory)


def _on_host(named: Named) -> Tensor:
    return named[1].cpu()


def _place_in_file(unit: Unit) -> tuple[int, str]:
    first = unit.entries[0]
    return -first.bytes // max(first.elements, 1), first.name


def _from_1(items: list) -> range:
    return range(1, len(items) + 1)
