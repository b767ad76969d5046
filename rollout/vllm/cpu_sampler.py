"""A CPU's sampler for what rollouts ask for. Logits -> **one kernel** -> tokens with their log-probs -> vLLM.

vLLM's sampler reads the logits of a step about nine times: float32, temperature, log-probs, noise, ranks. That is a
quarter of the time of decoding with a small model. Requests with a seed, a temperature and neither top-k nor top-p
are drawn here, by inversion: one uniform number of the request's own generator, one pass over its row. All others go to
vLLM's sampler.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler


class CpuSampler(torch.nn.Module):
    """In the place of an engine's own sampler, which it keeps.

    Only for engines whose requests have no penalties, biases or bounds of vLLM's own beyond temperature, top-k and
    top-p, as ours: processors of logits are not asked.
    """

    def __init__(self, vllm: Sampler) -> None:
        super().__init__()
        self.vllm = vllm

    def forward(
        self, logits: torch.Tensor, sampling_metadata: SamplingMetadata, *args: Any, **kwargs: Any
    ) -> SamplerOutput:
        """logits [B, V] of one step."""
        if not _is_plain(logits, sampling_metadata):
            return self.vllm(logits, sampling_metadata, *args, **kwargs)
        uniform = torch.empty(len(logits), dtype=torch.float64)
        for row, generator in sampling_metadata.generators.items():
            uniform[row].uniform_(generator=generator)
        token, logp, rank = torch.ops.pangu_rl.draw(logits.contiguous(), sampling_metadata.temperature, uniform)
        token = token.to(torch.int32)[:, None]
        return SamplerOutput(sampled_token_ids=token, logprobs_tensors=LogprobsTensors(token, logp[:, None], rank))

    def __getattr__(self, name: str) -> Any:
        """What else the engine asks its sampler for (log-probs of prompts) is vLLM's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.vllm, name)


def _is_plain(logits: torch.Tensor, asked: SamplingMetadata) -> bool:
    return (
        asked.all_random
        and asked.top_k is None
        and asked.top_p is None
        and asked.max_num_logprobs == 0
        and len(asked.generators) == len(logits)
        and logits.dtype in (torch.float32, torch.bfloat16)
    )
