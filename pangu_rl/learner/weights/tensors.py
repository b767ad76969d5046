"""The tensors of a model's checkpoint, one at a time: learner's model -> **names and tensors** -> publisher, export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Named = tuple[str, Tensor]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """Parameters and persistent buffers under their own names, tied ones once; never all of them at a time."""

    lm: PreTrainedModel
    gathered: Callable[[nn.Parameter], AbstractContextManager]
    """Within it a parameter is whole on this rank; all ranks enter it together."""

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
            if isinstance(tensors[name], nn.Parameter):
                with self.gathered(tensors[name]):
                    yield name, tensors[name].detach()
            else:
                yield name, tensors[name]

    def _tensors(self) -> dict[str, Tensor]:
        persistent = self.lm.state_dict().keys()
        buffers = {name: buffer for name, buffer in self.lm.named_buffers() if name in persistent}
        return dict(self.lm.named_parameters()) | buffers


def exhaust(weights: Iterable[Named]) -> None:
    """Take part in every gather and keep nothing."""
    for _ in weights:
        pass


def released(copies: list[Named]) -> Iterator[Named]:
    """The entries in order, each let go of by the list before it is handed on."""
    copies.reverse()
    while copies:
        yield copies.pop()
