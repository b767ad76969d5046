"""vLLM's compiled RMS norm on a CPU, where vLLM runs a chain of torch operations. Registration -> **layer** -> model.

vLLM builds the kernel for CPUs and calls it on devices alone; the chain takes a third of the time of decoding. The
class takes the place of vLLM's (`CustomOp.register_oot`, in vLLM 0.23 to 0.33). Under compilation vLLM calls neither:
it fuses the chain itself. SwiGLU stays as it is: there the kernel for CPUs is the slower of the two.
"""

from __future__ import annotations

import torch
from vllm.model_executor.layers.layernorm import RMSNorm

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
