"""The norm that takes the place of vLLM's on a CPU: against fp64, for every way in which vLLM calls it."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow  # the import alone takes longer than a quick test may

EPSILON = 1e-5
ROUNDED_ONCE = 2.0**-8
"""Half a unit in the last place of bf16, relative. The chain of torch operations rounds twice and exceeds it."""


@pytest.fixture(scope="module", autouse=True)
def registered():
    from rollout.vllm.plugin import register

    register()
    register()


def built(width: int) -> torch.nn.Module:
    from vllm.config import CompilationConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.layernorm import RMSNorm

    eager = VllmConfig(compilation_config=CompilationConfig(mode=0))
    with set_current_vllm_config(eager):
        norm = RMSNorm(width, eps=EPSILON, dtype=torch.bfloat16)
    norm.weight.requires_grad_(False)
    norm.weight.data = 1 + drawn(width) / 8
    return norm


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7)).bfloat16()


def reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    x = x.double()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight.double()


def assert_rounded_once(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == torch.bfloat16
    assert ((found.double() - expected).abs() <= ROUNDED_ONCE * 1.01 * expected.abs()).all()


def test_rows_and_that_the_chain_would_fail_here():
    norm, x = built(576), drawn(64, 576)
    expected = reference(x, norm.weight)
    assert_rounded_once(norm(x), expected)
    with pytest.raises(AssertionError):
        assert_rounded_once(norm.forward_native(x), expected)


def test_a_row_does_not_depend_on_its_batch():
    norm, x = built(576), drawn(64, 576)
    assert torch.equal(norm(x)[5:6], norm(x[5:6]))


def test_heads_that_lie_apart_in_a_fused_projection():
    """Qwen3 norms [T, heads, D] cut out of [T, (q + k + v) D]: rows that are not one behind the other."""
    norm, fused = built(64), drawn(10, 8 * 64)
    heads = fused[:, 2 * 64 : 5 * 64].view(10, 3, 64)
    assert not heads.is_contiguous()
    assert_rounded_once(norm(heads), reference(heads, norm.weight))


def test_residual_is_added_first_and_comes_back():
    norm, x, residual = built(576), drawn(64, 576), drawn(64, 576).flip(0)
    total = x.float() + residual.float()
    normed, kept = norm(x, residual)
    assert torch.equal(kept, total.bfloat16())
    # The kernel may norm the sum before or after it is rounded, which moves each value by half a unit at most.
    expected = reference(total, norm.weight)
    assert ((normed.double() - expected).abs() <= 2.1 * ROUNDED_ONCE * expected.abs() + 1e-6).all()


def test_float32_is_kept():
    norm, x = built(64), drawn(3, 64).float()
    norm.weight.data = norm.weight.data.float()
    assert torch.allclose(norm(x).double(), reference(x, norm.weight), rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", [8, 40])
def test_a_width_that_the_kernel_does_not_take(width):
    norm, x = built(width), drawn(3, width)
    assert torch.equal(norm(x), norm.forward_native(x))


def test_a_weight_of_another_dtype():
    norm, x = built(64), drawn(3, 64)
    norm.weight.data = norm.weight.data.float()
    assert torch.equal(norm(x), norm.forward_native(x))
