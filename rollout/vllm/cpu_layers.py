"""Compiled layers on a CPU, where vLLM runs chains of torch operations. Registration -> **layers** -> model.

vLLM builds a kernel of the RMS norm for CPUs and calls it on devices alone; the chain takes a third of the time of
decoding. SwiGLU is our own kernel: vLLM's for CPUs is slower than its chain. The classes take the place of vLLM's
(`CustomOp.register_oot`, in vLLM 0.23 to 0.33). Under compilation vLLM calls neither: it fuses the chains itself.
"""

from __future__ import annotations

import torch
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

from pangu_rl.accelerators.native import load_native

LANES = 16
"""The kernel takes rows of whole vectors."""


@RMSNorm.register_oot(name="RMSNorm")
class CpuRMSNorm(RMSNorm):
    """fp32 inside, rounded once; the chain rounds twice, before the weight and after it."""

    def forward_cpu(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """x and residual [..., E] -> norm of x; or, in place of both, norm of their sum and the sum."""
        weight = self.weight.data
        if self.variance_size_override is not None or weight.dtype != x.dtype or x.shape[-1] % LANES:
            return self.forward_native(x, residual)
        # The kernel reads rows one behind the other, and heads cut out of a fused projection are not.
        x = x.contiguous()
        if residual is None:
            output = torch.empty_like(x)
            torch.ops._C.rms_norm(output, x, weight, self.variance_epsilon)
            return output
        residual = residual.contiguous()
        torch.ops._C.fused_add_rms_norm(x, residual, weight, self.variance_epsilon)
        return x, residual


@SiluAndMul.register_oot(name="SiluAndMul")
class CpuSiluAndMul(SiluAndMul):
    """fp32 inside, rounded once."""

    def forward_cpu(self, x: torch.Tensor) -> torch.Tensor:
        """[..., 2 F], gates and then what goes through them -> [..., F]."""
        if x.dtype not in (torch.bfloat16, torch.float32) or not load_native():
            return self.forward_native(x)
        return torch.ops.pangu_rl.gated_halves(x.contiguous())
