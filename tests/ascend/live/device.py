"""Code that runs on an NPU of shapes alone, and what is asked of every operator that it called."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch._ops import OpOverload

from tests.ascend.fake_npu import FakeNpu
from tests.ascend.npu_facts import PIN, kernels
from tests.ascend.wheels import wheel

DEVICE = "npu:0"
DECOMPOSED = ("CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")


@contextmanager
def npu_of_shapes(*, float64: bool = False) -> Iterator[FakeNpu]:
    """Afterwards, all that ran on the device has a kernel in the pinned release, and unless it may be, none was
    float64."""
    with FakeNpu() as mode:
        yield mode
    assert mode.calls, "nothing ran on the device"
    assert not (lacking := without_kernel(mode.calls)), f"no kernel in {PIN}: {', '.join(lacking)}"
    wide = sorted(str(op) for op, dtypes in mode.calls.items() if any("float64" in each for each in dtypes))
    assert float64 or not wide, f"float64 on the device: {', '.join(wide)}"


def without_kernel(operators: Iterable[OpOverload]) -> list[str]:
    """Those that neither have a kernel in the pinned release nor are made of others."""
    return sorted(str(operator) for operator in operators if not _runs(operator))


def _runs(operator: OpOverload) -> bool:
    namespace, _, name = operator.name().partition("::")
    if namespace not in ("aten", "npu") or name in _pinned_kernels():
        return True
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key) for key in DECOMPOSED)


@lru_cache
def _pinned_kernels() -> frozenset[str]:
    with zipfile.ZipFile(wheel(PIN.replace(" ", "=="))) as archive:
        return frozenset(kernels(archive))
