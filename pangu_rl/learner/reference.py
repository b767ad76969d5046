"""The model that a run started from, frozen: pack -> **its log-probs beside the pack's columns** -> the KL of GRPO.

Where adapters train it is the model that trains, without them. Else every rank holds it whole beside that, in the dtype
that trains; it is read from the start's folder and no part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pangu_rl.learner.model import PackedCausalLM, PackTensors, load_causal_lm
from pangu_rl.learner.spec import LearnerSpec

Model = Callable[[PackTensors], tuple[Tensor, Tensor]]
"""As `PackedCausalLM`; collective over the ranks that share a pack."""


def held_reference(spec: LearnerSpec, device: torch.device) -> Model:
    """The start's model, a second one on this rank."""
    lm = load_causal_lm(spec.model).to(device).requires_grad_(False)
    return PackedCausalLM(lm, temperature=spec.temperature, chunk=spec.learner.logprob_chunk)


@torch.no_grad()
def beside(reference: Model, batch: PackTensors) -> PackTensors:
    """`batch` with the column `reference_logprobs`, float32 [M]; called under `attend_by(batch.layout)`."""
    return replace(batch, columns=batch.columns | {"reference_logprobs": reference(batch)[0]})
