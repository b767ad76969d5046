"""A mode in which NPU tensors have shapes and no numbers, while those of the processor stay real.

torch's own `FakeTensorMode` fakes both, and a learner that asks for a length, copies a pack to the device or reads a
loss cannot run in it. Here whatever is read back from the device is a placeholder: zeros, a count of 1, and all
elements where numbers decide how many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch_npu  # noqa: F401
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class FakeNpu(TorchDispatchMode):
    """`calls`: every operator that ran on the device, with the dtypes of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[OpOverload, set[tuple[str, ...]]] = defaultdict(set)
        self._fake = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)

    def __enter__(self) -> FakeNpu:
        # Else `torch.tensor(values, device="npu")` copies below the dispatcher, which needs real memory there.
        torch._C._set_only_lift_cpu_tensors(True)
        nn.Module._apply = _apply_where_needed
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        nn.Module._apply = _apply
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = pytree.arg_tree_leaves(*args, **kwargs)
        if not any(_on_device(leaf) for leaf in leaves):
            return func(*args, **kwargs)
        self.calls[func].add(tuple(_dtype(leaf) for leaf in leaves if isinstance(leaf, Tensor)))
        if func in STANDINS and (result := STANDINS[func](*args, **kwargs)) is not NotImplemented:
            return result
        with self._fake:
            return func(*pytree.tree_map(self._faked, args), **pytree.tree_map(self._faked, kwargs))

    def _faked(self, leaf: Any) -> Any:
        real = isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor)
        return self._fake.from_tensor(leaf, static_shapes=True) if real else leaf


_apply = nn.Module._apply


def _apply_where_needed(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """torch would swap a fake parameter also with itself, which anything that refers to it weakly forbids."""
    there = all(isinstance(x, FakeTensor) and fn(x) is x for x in (*module.parameters(), *module.buffers()))
    return module if there else _apply(module, fn, recurse)


def _on_device(leaf: Any) -> bool:
    return isinstance(leaf, FakeTensor) or (isinstance(leaf, torch.device) and leaf.type == "npu")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _number(x: Tensor) -> bool | float | int:
    """Flags are down, numbers are 0, and what is counted there is one of."""
    if x.dtype in (torch.bool, torch.uint8):
        return False
    return 0.0 if x.is_floating_point() else 1


def _copied(x: Tensor, *, device: torch.device | None = None, dtype: torch.dtype | None = None, **_: Any) -> Any:
    to_host = device is not None and torch.device(device).type == "cpu"
    return torch.zeros(x.shape, dtype=dtype or x.dtype) if to_host else NotImplemented


def _copied_into(into: Tensor, source: Tensor, non_blocking: bool = False) -> Any:
    return NotImplemented if isinstance(into, FakeTensor) else into.zero_()


def _picked(x: Tensor, indices: list[Tensor | None]) -> Any:
    if not any(index is not None and index.dtype is torch.bool for index in indices):
        return NotImplemented
    return aten.index.Tensor(x, [i if i is None or i.dtype is not torch.bool else _some(x, i.numel()) for i in indices])


def _unique(x: Tensor, *_: bool) -> tuple[Tensor, Tensor, Tensor]:
    return _some(x, min(2, x.numel()), dtype=x.dtype), _some(x, *x.shape), _some(x, 0)


def _some(x: Tensor, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return x.new_empty(shape, dtype=dtype)


STANDINS: dict[OpOverload, Callable[..., Any]] = {
    # What is read on the processor.
    aten._local_scalar_dense.default: _number,
    aten._to_copy.default: _copied,
    aten.copy_.default: _copied_into,
    # Results as long as the numbers say.
    aten._unique2.default: _unique,
    aten.nonzero.default: lambda x: _some(x, x.numel(), x.dim()),
    aten.index.Tensor: _picked,
    aten.bincount.default: lambda x, weights=None, minlength=0: _some(x, max(2, minlength)),
    # What concerns memory alone.
    aten.record_stream.default: lambda x, stream: None,
    torch.ops.npu.npu_format_cast.default: lambda x, *_, **__: x,
}
"""Instead of shapes worked out by torch or torch-npu; NotImplemented leaves them to it."""
