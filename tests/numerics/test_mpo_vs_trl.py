"""MPO against TRL 1.16's own code: `DPOTrainer._compute_loss` with sigmoid, bco_pair and sft.

First on given log-probs, then through a model with TRL's padding and head against ours with shared prompts in a pack.
TRL knows no reward shift, and its generation loss is a mean over the tokens of the batch, so the shift is 0, and
several pairs have chosen responses of one length.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.mpo import mpo_loss
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import DpoLearnerConfig, MpoAlgorithmConfig
from pangu_rl.data.packs.batching import PairRow
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.objectives import build_objective
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.spec import LearnerSpec
from tests.unit.learner.builders import VOCABULARY, llama
from tests.unit.learner.pair_builders import mini_batches

DPOTrainer = pytest.importorskip("trl").DPOTrainer

PROMPT = 4


class GivenLogProbs(DPOTrainer):
    """TRL's trainer on one process with precomputed reference log-probs, and log-probs for a model."""

    def __init__(self, weights: tuple[float, float, float], beta: float) -> None:
        self.loss_types, self.loss_weights, self.beta = ["sigmoid", "bco_pair", "sft"], list(weights), beta
        self.precompute_ref_logps, self.f_divergence_type = True, "reverse_kl"
        self.aux_loss_enabled = self.use_weighting = False
        self.ld_alpha, self.label_smoothing = None, 0.0
        self._total_train_tokens, self._tp_size = 0, 1
        self.model = SimpleNamespace(training=True)
        self.accelerator = SimpleNamespace(
            device=torch.device("cpu"), gather=lambda value: value, gather_for_metrics=lambda value: value
        )
        self._metrics = {"train": defaultdict(list)}


def trl_loss(
    trainer: DPOTrainer, logps: Tensor, references: Tensor, mask: Tensor
) -> tuple[Tensor, dict[str, list[float]]]:
    """`logps` [2B, L] of padded responses, chosen ones first, behind a prompt of PROMPT tokens."""
    completion_mask = torch.nn.functional.pad(mask.long(), (PROMPT, 0))
    shifted = torch.nn.functional.pad(torch.where(mask, logps, 0.0), (PROMPT - 1, 0))
    blank = torch.zeros_like(shifted)
    outputs = SimpleNamespace(log_probs=shifted, entropy=blank, mean_logits=blank, is_top1=blank.bool())
    ref_chosen, ref_rejected = references.chunk(2)
    inputs = {
        "input_ids": torch.ones_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
        "completion_mask": completion_mask,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    return trainer._compute_loss(lambda **kwargs: outputs, inputs, False), trainer._metrics["train"]


LENGTHS = {
    "one pair": [7, 3],
    "chosen of one length": [5, 5, 5, 5, 2, 9, 5, 1],
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("weights", [(0.8, 0.2, 1.0), (0.8, 0.0, 1.0), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_loss_gradient_and_metrics_equal_trl(
    lengths: list[int], weights: tuple[float, float, float], beta: float
) -> None:
    """1e-6 in fp32; a reference taken from the wrong side or a mean over the wrong count is 1e-2."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    drawn = torch.where(mask, -3 * torch.rand(mask.shape, generator=generator), -50.0)
    references = torch.where(mask, drawn, 0.0).sum(1) + torch.randn(len(lengths), generator=generator)
    theirs_logp, our_logp = drawn.clone().requires_grad_(), drawn.clone().requires_grad_()
    theirs, theirs_metrics = trl_loss(GivenLogProbs(weights, beta), theirs_logp, references, mask)

    chosen, rejected = torch.where(mask, our_logp, 0.0).sum(1).chunk(2)
    ours, metrics = mpo_loss(
        chosen,
        rejected,
        *references.chunk(2),
        torch.tensor(lengths[: len(lengths) // 2]),
        beta=beta,
        weights=weights,
    )
    theirs.backward()
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_logp.grad, theirs_logp.grad, rtol=0, atol=1e-6)
    names = {
        "reward_chosen": "rewards/chosen",
        "reward_rejected": "rewards/rejected",
        "reward_margin": "rewards/margins",
        "accuracy": "rewards/accuracies",
    }
    for name, theirs_name in names.items():
        assert metrics[name].item() == pytest.approx(theirs_metrics[theirs_name][-1], abs=1e-6), name


def token_pairs() -> list[PairRow]:
    """Prompts of 3 to 11 tokens, chosen responses of 6, rejected ones of 2 to 9."""
    generator = torch.Generator().manual_seed(2)

    def draw(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()

    return [
        PairRow(
            prompt=TrainingRow(token_ids=draw(prompt), trained=[False] * prompt),
            chosen=draw(6),
            rejected=draw(rejected),
            reference=(-26.0 - prompt, -4.0 * rejected),
        )
        for prompt, rejected in ((3, 9), (11, 2), (7, 5))
    ]


def padded(pairs: list[PairRow]) -> dict[str, Tensor]:
    """A batch as TRL collates it: chosen sequences, then rejected ones, padded on the right."""
    answers = [(row, row.chosen) for row in pairs] + [(row, row.rejected) for row in pairs]
    ids = [torch.tensor([*row.prompt.token_ids, *answer]) for row, answer in answers]
    masks = [torch.tensor([0] * len(row.prompt.token_ids) + [1] * len(answer)) for row, answer in answers]

    def pad(rows: list[Tensor]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    ref_chosen, ref_rejected = torch.tensor([row.reference for row in pairs]).T
    return {
        "input_ids": pad(ids),
        "attention_mask": pad([torch.ones_like(row) for row in ids]),
        "completion_mask": pad(masks),
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }


@pytest.mark.parametrize("pack_tokens", [1000, 25])
def test_a_models_gradients_equal_trl(pack_tokens: int) -> None:
    """Every parameter's, within 1e-5 in fp32, in one pack and in three; BCO has its weight and no shift."""
    from trl.trainer.utils import add_fused_lm_head

    pairs, theirs_lm, our_lm = token_pairs(), llama(), llama()
    theirs_lm.set_attn_implementation("sdpa")
    add_fused_lm_head(theirs_lm, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    theirs = GivenLogProbs((0.8, 0.2, 1.0), 0.1)._compute_loss(theirs_lm, padded(pairs), False)
    theirs.backward()

    our_lm.set_attn_implementation(PACKED)
    objective = build_objective(
        LearnerSpec(
            model=ModelConfig(path="unused"),
            learner=DpoLearnerConfig(),
            objective="mpo",
            algorithm=MpoAlgorithmConfig(),
            total_steps=1,
        )
    )
    [batch] = mini_batches(pairs, pack_tokens=pack_tokens)
    assert len(batch.packs) == (1 if pack_tokens == 1000 else 3)
    ours = 0.0
    for pack in batch.packs:
        tensors = PackTensors.of(pack, "cpu")
        with attend_by(tensors.layout):
            loss, _ = objective.loss(*PackedCausalLM(our_lm, temperature=1.0, chunk=64)(tensors), tensors, batch)
            loss.backward()
        ours += loss.item()
    assert ours == pytest.approx(theirs.item(), abs=1e-5)
    expected = dict(theirs_lm.named_parameters())
    for name, parameter in our_lm.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-5, rtol=0, msg=name)
    assert our_lm.model.embed_tokens.weight.grad.abs().max() > 1e-2
