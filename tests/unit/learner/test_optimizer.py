"""The learning rate by hand, and what ZeRO 0's optimizer does with a gradient it must not apply."""

from __future__ import annotations

import pytest
import torch

from pangu_rl.config.sections.learner import OptimizerConfig
from pangu_rl.learner.optimizer import build_optimizer, rate_at


def rates(total: int, **options: object) -> list[float]:
    return [rate_at(step, total, OptimizerConfig(**options)) for step in range(total)]


def test_constant_after_warmup() -> None:
    assert rates(5, warmup_steps=2) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_linear_reaches_its_floor_at_the_last_step() -> None:
    assert rates(6, schedule="linear", warmup_steps=1, min_lr_ratio=0.2) == pytest.approx([1, 1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert rates(5, schedule="cosine") == pytest.approx([1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2, 0])


def test_a_run_of_one_step_has_the_full_rate() -> None:
    assert rates(1, schedule="linear") == [1.0]


@pytest.mark.parametrize("stage", [0, 1])
def test_the_moments_decay_by_the_betas_of_the_configuration(stage: int) -> None:
    """Gradients 1 and 0, betas 1/2 and 3/5. The first step is 1; then m = 0.5 * 0.5 and v = 0.6 * 0.4, over 1 - 0.25
    and 1 - 0.36: the second is (1 / 3) / sqrt(0.375) = 0.54433."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    config = OptimizerConfig(lr=1.0, betas=(0.5, 0.6), eps=1e-12, weight_decay=0.0, grad_clip=9.0)
    optimizer = build_optimizer([parameter], config, zero_stage=stage)
    for gradient in (1.0, 0.0):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    assert parameter.item() == pytest.approx(-1.54433, abs=1e-5)


def test_zero_0_clips_to_the_global_norm_and_skips_what_is_not_finite() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = build_optimizer([parameter], OptimizerConfig(lr=1.0, grad_clip=0.5), zero_stage=0)
    parameter.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert optimizer._global_grad_norm == 5.0
    torch.testing.assert_close(parameter.grad, torch.tensor([0.3, 0.4]), atol=1e-6, rtol=0)
    before = parameter.detach().clone()
    parameter.grad = torch.tensor([1.0, torch.inf])
    optimizer.step()
    assert optimizer.overflow
    assert torch.equal(parameter, before)
