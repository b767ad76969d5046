"""The model that a run started from, frozen: pack -> **its log-probs beside the pack's columns** -> the KL of GRPO.

Every rank holds it whole, in the dtype that trains, and runs it on the packs of its own mini-batch. It is read from the
start's folder and no part of a checkpoint.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pangu_rl.learner.model import PackedCausalLM, PackTensors, load_causal_lm
from pangu_rl.learner.spec import LearnerSpec


class Reference:
    """Collective over the ranks that share a pack, as the model that trains is."""

    def __init__(self, spec: LearnerSpec, device: torch.device) -> None:
        lm = load_causal_lm(spec.model).to(device).requires_grad_(False)
        self.model = PackedCausalLM(lm, temperature=spec.temperature, chunk=spec.learner.logprob_chunk)

    @torch.no_grad()
    def beside(self, batch: PackTensors) -> PackTensors:
        """`batch` with the column `reference_logprobs`, float32 [M]; called under `attend_by(batch.layout)`."""
        return replace(batch, columns=batch.columns | {"reference_logprobs": self.model(batch)[0]})
