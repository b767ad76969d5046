"""Weights -> **a model folder in Hugging Face layout** -> whoever loads it, vLLM included.

The folder is planned from shapes alone, then filled tensor by tensor in the plan's order.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.model_folder import COMPANIONS
from pangu_rl.checkpoint.model_tensors import INDEX, TensorEntry, write_index, write_shard
from pangu_rl.learner.weights.tensors import Named
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

SHARD_BYTES = 5 << 30
"""Of one file, unless a single tensor is larger."""
WHOLE = "model.safetensors"
GENERATION = "generation_config.json"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "bool": "BOOL"}
"""torch's name -> that of safetensors."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Tensors of the model that become tensors of the checkpoint together: one and the same, but for fused experts."""

    sources: tuple[str, ...]
    entries: tuple[TensorEntry, ...]

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)


Plan = dict[str, list[Unit]]
"""File name -> what it holds, in the order of writing."""


def plan_export(lm: PreTrainedModel, described: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> Plan:
    """The files of a checkpoint of `lm`, whose tensors are `described` on the meta device.

    One file if all fit into `shard_bytes`, otherwise shards in the model's order. Within a file wider dtypes come
    first, then names count, as the safetensors library has it.
    """
    shards: list[list[Unit]] = [[]]
    for unit in _units(lm, described):
        if shards[-1] and sum(other.bytes for other in shards[-1]) + unit.bytes > shard_bytes:
            shards.append([])
        shards[-1].append(unit)
    names = [WHOLE] if len(shards) == 1 else [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in _from_1(shards)]
    return {name: sorted(shard, key=_place_in_file) for name, shard in zip(names, shards, strict=True)}


def planned_names(plan: Plan) -> list[str]:
    """The model's tensors in the order in which `write_model` takes them."""
    return [source for shard in plan.values() for unit in shard for source in unit.sources]


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
        partial = directory / f".{name}.partial"
        entries = [entry for unit in units for entry in unit.entries]
        written[name] = write_shard(
            partial, entries, itertools.chain.from_iterable(_tensors(lm, unit, stream) for unit in units)
        )
        os.replace(partial, directory / name)
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


def _units(lm: PreTrainedModel, described: Mapping[str, Tensor]) -> list[Unit]:
    """In the model's order. Conversions that need several tensors of the model at once take all of them."""
    kept = {name: tensor for name, tensor in described.items() if name not in (lm._keys_to_ignore_on_save or ())}
    alone = [Unit((name,), _entries(_converted(lm, {name: tensor}))) for name, tensor in kept.items()]
    together = _entries(_converted(lm, kept))
    if {entry for unit in alone for entry in unit.entries} == set(together):
        return alone
    return [Unit(tuple(kept), together)]


def _converted(lm: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As transformers saves them; our own models go by the released names, which are theirs."""
    ours = isinstance(lm, PanguVLForConditionalGeneration)
    return dict(tensors) if ours else revert_weight_conversion(lm, dict(tensors))


def _tensors(lm: PreTrainedModel, unit: Unit, stream: Iterator[Named]) -> Iterator[Tensor]:
    """The values of the unit's entries, in host memory."""
    if len(unit.sources) == 1:
        name, tensor = next(stream)
        found = {name: tensor.cpu()}
    else:
        found = {name: tensor.to("cpu", copy=True) for name, tensor in (next(stream) for _ in unit.sources)}
    assert tuple(found) == unit.sources, f"weights came as {tuple(found)}, planned were {unit.sources}"
    converted = _converted(lm, found)
    for entry in unit.entries:
        yield converted[entry.name]


def _entries(tensors: Mapping[str, Tensor]) -> tuple[TensorEntry, ...]:
    return tuple(
        TensorEntry(name, tuple(tensor.shape), DTYPES[str(tensor.dtype).removeprefix("torch.")])
        for name, tensor in tensors.items()
    )


def _place_in_file(unit: Unit) -> tuple[int, str]:
    first = unit.entries[0]
    return -first.bytes // max(first.elements, 1), first.name


def _from_1(items: list) -> range:
    return range(1, len(items) + 1)
