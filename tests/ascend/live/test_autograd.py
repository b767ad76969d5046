"""Part d: which operators of torch-npu have a gradient. One whose gradient stays None, without an error, is the worst.

The table is what the real wheel does; the kernels of ours stand at its end, and all of them must give every gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.ascend.fake_npu import FakeNpu
from tests.ascend.live.device import DEVICE
from tests.ascend.test_numbers import CASES

npu = torch.ops.npu
NATIVE, REFUSED, SILENT = "native", "refused", "silent"


def survey(function: Callable[..., Tensor], args: tuple[object, ...], learned: tuple[int, ...]) -> str:
    """Whether all of `learned` get a gradient, an error is raised, or one of them silently stays without."""
    leaves = [x.detach().requires_grad_() if i in learned else x for i, x in enumerate(args)]
    result = function(*leaves)
    if not result.requires_grad:
        return SILENT
    try:
        result.float().sum().backward()
    except (NotImplementedError, RuntimeError):
        return REFUSED
    return NATIVE if all(leaves[i].grad is not None for i in learned) else SILENT


def rows(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.bfloat16, device=DEVICE)


def ends() -> Tensor:
    return torch.zeros(2, dtype=torch.int64, device=DEVICE)


def experts(x: Tensor, weight: Tensor) -> Tensor:
    return npu.npu_grouped_matmul([x], [weight], group_list=ends(), split_item=2, group_type=0)[0]


def updated(x: Tensor, y: Tensor) -> Tensor:
    wide = torch.zeros(20, 4, 8, device=DEVICE)
    bounds = torch.zeros(3, dtype=torch.int64, device=DEVICE)
    layout = {"actual_seq_qlen": bounds, "input_layout": "TND", "input_softmax_layout": "TND"}
    return npu.npu_ring_attention_update(x, wide, wide, y, wide, wide, **layout)[0]


SURVEY: dict[str, tuple[str, Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "npu_rms_norm": (NATIVE, lambda x, g: npu.npu_rms_norm(x, g)[0], [(20, 64), (64,)]),
    "npu_rotary_mul": (NATIVE, npu.npu_rotary_mul, [(1, 4, 20, 32), (1, 1, 20, 32), (1, 1, 20, 32)]),
    "npu_swiglu": (NATIVE, npu.npu_swiglu, [(20, 64)]),
    "npu_gelu": (NATIVE, lambda x: npu.npu_gelu(x, approximate="tanh"), [(20, 64)]),
    "npu_add_rms_norm": (REFUSED, lambda x, y, g: npu.npu_add_rms_norm(x, y, g)[0], [(20, 64), (20, 64), (64,)]),
    "npu_grouped_matmul": (SILENT, experts, [(20, 64), (2, 64, 32)]),
    "npu_ring_attention_update": (SILENT, updated, [(20, 4, 32), (20, 4, 32)]),
}
"""Operator -> what its gradient is, a call, the shapes of its arguments."""


@pytest.mark.parametrize("name", SURVEY)
def test_the_survey(name: str) -> None:
    expected, call, shapes = SURVEY[name]
    with FakeNpu():
        assert survey(call, tuple(rows(*shape) for shape in shapes), tuple(range(len(shapes)))) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_our_kernels_give_every_gradient_in_the_shape_and_dtype_of_its_input(name: str, dtype: torch.dtype) -> None:
    operation, args, learned = CASES[name]
    with FakeNpu():
        args = tuple(
            x.to(DEVICE, dtype if x.is_floating_point() else None) if isinstance(x, Tensor) else x for x in args
        )
        assert operation.kernels["npu"].refuses(*args) is None
        leaves = [x.detach().requires_grad_() if i in learned else x for i, x in enumerate(args)]
        operation(*leaves).float().sum().backward()
        for index in learned:
            leaf = leaves[index]
            assert leaf.grad is not None, f"{name}: no gradient of argument {index}"
            assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, dtype)
