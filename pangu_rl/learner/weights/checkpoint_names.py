"""The learner's tensors -> **tensors as a checkpoint has them** -> export, engines: fused experts come apart.

transformers loads a model from other tensors than it holds: it joins the experts of a layer, or renames. Engines and
folders know the checkpoint's. Planned from shapes alone, done tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from pangu_rl.checkpoint.model_tensors import TensorEntry
from pangu_rl.learner.weights.tensors import Named
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration

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


def plan_units(lm: PreTrainedModel, described: Mapping[str, Tensor]) -> list[Unit]:
    """Of the model's tensors, `described` on the meta device, in its order. Conversions that need several of them at
    once take all of them."""
    kept = {name: tensor for name, tensor in described.items() if name not in (lm._keys_to_ignore_on_save or ())}
    alone = [Unit((name,), _entries(_converted(lm, {name: tensor}))) for name, tensor in kept.items()]
    together = _entries(_converted(lm, kept))
    if {entry for unit in alone for entry in unit.entries} == set(together):
        return alone
    return [Unit(tuple(kept), together)]


def sources_of(units: Iterable[Unit]) -> list[str]:
    """The model's tensors in the order in which `as_checkpoint` takes them."""
    return [source for unit in units for source in unit.sources]


def as_checkpoint(lm: PreTrainedModel, units: Sequence[Unit], weights: Iterable[Named]) -> Iterator[Named]:
    """Names and values of the units' entries, of `weights` that come as `sources_of(units)` and live where they do.

    A unit of one tensor is held no longer than it is used; of several, they are copied into host memory first.
    """
    stream = iter(weights)
    for unit in units:
        yield from _of_unit(lm, unit, stream)


def _of_unit(lm: PreTrainedModel, unit: Unit, stream: Iterator[Named]) -> Iterator[Named]:
    """A generator of its own, which lets go of the unit's tensors before the next are asked for."""
    if len(unit.sources) == 1:
        found = dict([next(stream)])
    else:
        found = {name: tensor.to("cpu", copy=True) for name, tensor in (next(stream) for _ in unit.sources)}
    assert tuple(found) == unit.sources, f"weights came as {tuple(found)}, planned were {unit.sources}"
    converted = _converted(lm, found)
    for entry in unit.entries:
        yield entry.name, converted[entry.name]


def _converted(lm: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As transformers saves them; our own models go by the released names, which are theirs."""
    ours = isinstance(lm, PanguVLForConditionalGeneration)
    return dict(tensors) if ours else revert_weight_conversion(lm, dict(tensors))


def _entries(tensors: Mapping[str, Tensor]) -> tuple[TensorEntry, ...]:
    return tuple(
        TensorEntry(name, tuple(tensor.shape), DTYPES[str(tensor.dtype).removeprefix("torch.")])
        for name, tensor in tensors.items()
    )
