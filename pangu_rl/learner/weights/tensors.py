"""The tensors of a model's checkpoint, one at a time: learner's model -> **names and tensors** -> publisher, export.

A weight that has an adapter comes with it folded in, under the name that it has without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pangu_rl.checkpoint.adapter_folder import parameter_name
from pangu_rl.checkpoint.folding import folded
from pangu_rl.learner.lora import BASE, Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Named = tuple[str, Tensor]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """Parameters and persistent buffers under their own names, tied ones once; never all of them at a time."""

    lm: PreTrainedModel
    gathered: Callable[[Sequence[nn.Parameter]], AbstractContextManager]
    """Within it parameters are whole on this rank; all ranks enter it together."""
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    """By the name of the weight that they change."""

    def described(self) -> dict[str, Tensor]:
        """Every tensor's shape and dtype, on the meta device."""
        return {
            name: torch.empty(getattr(tensor, "ds_shape", tensor.shape), dtype=tensor.dtype, device="meta")
            for name, tensor in self._tensors().items()
        }

    def stream(self, names: Iterable[str] | None = None) -> Iterator[Named]:
        """(name, tensor) on the device in the order of `names`, each valid until the next is asked for.

        Under ZeRO 3 every rank must go through all of it, in the same order.
        """
        tensors = self._tensors()
        for name in tensors if names is None else names:
            tensor, adapter = tensors[name], self.adapters.get(name)
            if adapter is not None:
                with self.gathered([tensor, adapter.a, adapter.b]), torch.no_grad():
                    tensor = folded(tensor, adapter.a, adapter.b, adapter.scale)
                yield name, tensor
            elif isinstance(tensor, nn.Parameter):
                with self.gathered([tensor]):
                    yield name, tensor.detach()
            else:
                yield name, tensor

    def adapter_stream(self) -> Iterator[Named]:
        """As `stream`, the adapters alone, under the names that peft gives them in a file."""
        for adapter in self.adapters.values():
            for side, parameter in (("lora_A", adapter.a), ("lora_B", adapter.b)):
                with self.gathered([parameter]):
                    yield parameter_name(adapter.layer, side), parameter.detach()

    def adapter_sizes(self) -> list[int]:
        """Bytes of each tensor of `adapter_stream`."""
        sides = (side for adapter in self.adapters.values() for side in (adapter.a, adapter.b))
        return [math.prod(getattr(side, "ds_shape", side.shape)) * side.element_size() for side in sides]

    def _tensors(self) -> dict[str, Tensor]:
        persistent = self.lm.state_dict().keys()
        buffers = {name: buffer for name, buffer in self.lm.named_buffers() if name in persistent}
        own = {id(side) for adapter in self.adapters.values() for side in (adapter.a, adapter.b)}
        parameters = {
            name.replace(BASE, ""): parameter
            for name, parameter in self.lm.named_parameters()
            if id(parameter) not in own
        }
        return parameters | buffers


def exhaust(weights: Iterable[Named]) -> None:
    """Take part in every gather and keep nothing."""
    for _ in weights:
        pass


def released(copies: list[Named]) -> Iterator[Named]:
    """The entries in order, each let go of by the list before it is handed on."""
    copies.reverse()
    while copies:
        yield copies.pop()
