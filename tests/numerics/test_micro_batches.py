"""A step whose packs share a micro-batch is the step of the packs alone: loss, metrics and gradients of every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.sft import balanced_loss
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig
from pangu_rl.data.packs.batching import loss_counts, pack_conversations, pack_counts, root_count
from pangu_rl.data.packs.micro_batches import merge_packs
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.objectives import add_totals, build_objective
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch
from tests.unit.data.groups import pack_groups
from tests.unit.learner.pair_builders import mini_batches, pair, sft_row
from tests.unit.learner.vl_builders import PLACEHOLDERS, group, pangu_vl, picture

A, B = picture("a", 2, 3), picture("b", 3, 1)


def grpo() -> MiniBatch:
    groups = [group("one", [A], [5, 9]), group("two", [], [4, 1, 7]), group("three", [A, B], [6, 3])]
    packs = pack_groups(groups, 40, PLACEHOLDERS)
    tokens, sequences = loss_counts(groups)
    return MiniBatch(packs=tuple(packs), loss_tokens=tokens, loss_sequences=sequences)


def sft() -> MiniBatch:
    packs = pack_conversations([sft_row(str(number), length) for number, length in enumerate((3, 14, 1, 9, 6))], 24)
    tokens, sequences = pack_counts(packs)
    return MiniBatch(packs=tuple(packs), loss_tokens=tokens, loss_sequences=sequences, loss_roots=root_count(packs))


def mpo() -> MiniBatch:
    pairs = [
        pair("one", [A], (5, 8), (-20.0, -35.0)),
        pair("two", [], (3, 2), (-13.0, -9.0)),
        pair("three", [A, B], (7, 1), (-30.0, -4.0)),
    ]
    [batch] = mini_batches(pairs, [sft_row("row", 6)], pack_tokens=30)
    return batch


CASES = {
    **{
        f"sft {average}": ("sft", SupervisedConfig(average=average), sft)
        for average in ("balanced", "token", "sample", "square")
    },
    **{
        f"grpo {aggregation}": ("grpo", GrpoAlgorithmConfig(aggregation=aggregation, correction={"high": 2.0}), grpo)
        for aggregation in ("token", "sequence", "sequence_sum")
    },
    **{
        f"{loss} {level} {outside}": (
            "grpo",
            GrpoAlgorithmConfig(loss=loss, correction={"level": level, "outside": outside, "high": 2.0}),
            grpo,
        )
        for loss, level, outside in (
            ("gspo", "sequence", "truncate"),
            ("gspo", "geometric", "mask"),
            ("cispo", "token", "mask"),
        )
    },
    "mpo": ("mpo", MpoAlgorithmConfig(), mpo),
}


def step(name: str, batch: MiniBatch) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
    """Totals and gradients of a step in float32, as the learner sums them."""
    kind, algorithm, _ = CASES[name]
    objective = build_objective(
        LearnerSpec(
            model=ModelConfig(path=""), learner=LearnerConfig(), objective=kind, algorithm=algorithm, total_steps=1
        )
    )
    lm = pangu_vl()
    lm.set_attn_implementation(PACKED)
    model = PackedCausalLM(lm, temperature=1.0, chunk=16)
    totals: dict[str, Tensor] = {}
    for pack in batch.packs:
        tensors = PackTensors.of(pack, "cpu")
        with attend_by(tensors.layout):
            logp, entropy = model(tensors)
            loss, terms = objective.loss(logp, entropy, tensors, batch)
            loss.backward()
        add_totals(totals, terms | {"loss": loss.detach()})
    return totals, {name: parameter.grad for name, parameter in lm.named_parameters()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sizes", [(3,), (2, 1)], ids=str)
def test_merged_packs_have_the_loss_metrics_and_gradients_of_the_packs_alone(name: str, sizes: Sequence[int]) -> None:
    """Losses are sums of some hundred float32 terms, gradients of some thousand: 1e-6 and 1e-5 are rounding.

    Eq. (1) without its packs is 1e-3 off, see below.
    """
    batch = CASES[name][2]()
    assert len(batch.packs) == sum(sizes)
    left = iter(batch.packs)
    merged = tuple(merge_packs([next(left) for _ in range(size)]) for size in sizes)
    expected, gradients = step(name, batch)
    found, own = step(name, replace(batch, packs=merged))
    assert found.keys() == expected.keys()
    for total in expected:
        assert found[total].item() == pytest.approx(expected[total].item(), rel=1e-6, abs=1e-6), total
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(own[parameter], gradient, atol=1e-5, rtol=1e-5, msg=parameter)


def test_eq_1_tells_merged_packs_apart() -> None:
    """Packs of losses 1 1 and 4, one pack of 1 1 4: with weights that depend on the loss the means differ."""
    losses, samples = torch.tensor([1.0, 1.0, 4.0]), torch.tensor([0, 0, 1])
    trained, denominators = torch.ones(3, dtype=torch.bool), (3.0, 2.0)
    apart, _ = balanced_loss(
        losses, samples, trained, pack_ids=torch.tensor([0.0, 0.0, 1.0]), denominators=denominators
    )
    parts = [
        balanced_loss(losses[at], samples[at], trained[at], denominators=denominators)[0]
        for at in (slice(0, 2), slice(2, 3))
    ]
    one, _ = balanced_loss(losses, samples, trained, denominators=denominators)
    assert apart.item() == pytest.approx(sum(parts).item(), rel=1e-6)
    assert abs(one.item() - apart.item()) > 1e-2
