"""A model's forward and backward pass -> **a trace**: what each layer puts out, and each gradient.

A trace is a safetensors file, so one side may be made on a machine with other devices: `000 model.embed_tokens`, the
blocks of a tower, the language model's layers, then `gradient of <name>`.
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
from pangu_rl.learner.pictures import family_of_model

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
    trace[f"{len(_traced(model)):03d} log-probs"] = _kept(found)
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
    """The output of each traced module at its last call; in the order of the forward pass, whichever side embeds words
    before it looks at pictures."""
    kept: dict[int, tuple[str, Tensor]] = {}

    def keep(number: int, name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            kept[number] = (name, _kept(output[0] if isinstance(output, tuple) else output))

        return hook

    traced = enumerate(_traced(model))
    handles = [module.register_forward_hook(keep(number, name)) for number, (name, module) in traced]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    trace |= {f"{number:03d} {name}": tensor for number, (name, tensor) in sorted(kept.items())}


def _traced(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The embeddings, and every member of a list of layers, those of a tower first."""
    named = list(model.named_modules())
    lists = [name for name, module in named if isinstance(module, nn.ModuleList)]
    members = [(name, module) for name, module in named if name.rpartition(".")[0] in lists]
    embeddings, family = model.get_input_embeddings(), family_of_model(model)
    if family is not None:
        members.sort(key=lambda member: family.part(f"{member[0]}.") == "language")
    return [*((name, module) for name, module in named if module is embeddings), *members]


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone()
