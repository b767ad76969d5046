"""A model's forward and backward pass -> **a trace**: what each layer puts out, and each gradient.

A trace is a safetensors file, so one side may be made on a machine with other devices: `000 model.embed_tokens`, ... in
the order of the forward pass, then `gradient of <name>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from pangu_rl.errors import DataError

GRADIENT = "gradient of "
Trace = dict[str, Tensor]
"""Name -> float32, in order."""


def fixed_tokens(vocabulary: int, length: int) -> Tensor:
    """int64 [T], the same everywhere: no generator of a device is asked."""
    places = torch.arange(length, dtype=torch.int64)
    return (places * 2_654_435_761 + 12_345) % 2**32 % vocabulary


def record_trace(model: PreTrainedModel, log_probs: Callable[[], Tensor]) -> Trace:
    """Embeddings, layers, the log-probs that a forward pass of `model` gives, float32 [T - 1], and the gradients of
    their negative mean."""
    trace: Trace = {}
    model.zero_grad(set_to_none=True)
    with _recorded(model, trace):
        found = log_probs()
    (-found.mean()).backward()
    trace[f"{len(trace):03d} log-probs"] = _kept(found)
    gradients = {
        f"{GRADIENT}{name}": _kept(tensor.grad) for name, tensor in model.named_parameters() if tensor.grad is not None
    }
    return trace | gradients


def save_trace(trace: Trace, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in trace.items()}, path)


def load_trace(path: Path) -> Trace:
    """
    Raises:
        DataError: no trace.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: no trace: {error}") from None
    return dict(sorted(found.items()))


@contextmanager
def _recorded(model: PreTrainedModel, trace: Trace) -> Iterator[None]:
    """The output of each traced module, once for each call of it."""

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            trace[f"{len(trace):03d} {name}"] = _kept(tensor)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in _traced(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _traced(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The embeddings, and every member of a list of layers."""
    named = list(model.named_modules())
    lists = [name for name, module in named if isinstance(module, nn.ModuleList)]
    members = [(name, module) for name, module in named if name.rpartition(".")[0] in lists]
    embeddings = model.get_input_embeddings()
    return [*((name, module) for name, module in named if module is embeddings), *members]


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone()
