"""The step does not depend on how the batch is cut: micro-batches 1, 2, 4 x ranks 1, 2 x ZeRO 0-3 x packed or padded.

The reference is plain torch on a padded batch with the model's own forward, in float32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch

from pangu_rl.algorithms.grpo import grpo_loss
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import split_ranks
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.learner.checks.packing_check import unpacked
from pangu_rl.learner.spec import LearnerSpec
from tests.gloo_ranks import on_ranks
from tests.unit.learner.builders import join, llama, save_llama, tree_pack

GROUPS = [
    tree_pack([(6, [9, 4])], seed=0, first_sequence=0),
    tree_pack([(11, [5, 7, 2])], seed=1, first_sequence=2),
    tree_pack([(3, [14])], seed=2, first_sequence=5),
    tree_pack([(8, [1, 6, 3])], seed=3, first_sequence=6),
]
TOKENS = sum(len(pack.targets) for pack in GROUPS)
SEQUENCES = 9
# A large eps makes Adam's first step proportional to the gradient: weights then agree as well as gradients do.
OPTIMIZER = OptimizerConfig(lr=1e-2, eps=1e-2, grad_clip=0.1)
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Case:
    packs: int
    stage: Literal[0, 1, 2, 3] = 1
    aggregation: Literal["token", "sequence"] = "token"
    dtype: Literal["float32", "bfloat16"] = "float32"
    micro_batch_tokens: int | None = None


ONE_RANK = [Case(1), Case(2), Case(4), Case(4, aggregation="sequence")]
TWO_RANKS = [
    Case(1),
    Case(2),
    Case(4),
    Case(4, aggregation="sequence"),
    Case(4, 0),
    Case(4, 2),
    Case(2, 3),
    Case(4, 3, micro_batch_tokens=70),
    Case(2, dtype="bfloat16"),
]


@dataclass(frozen=True, slots=True)
class Outcome:
    loss: float
    grad_norm: float
    weights: dict[str, torch.Tensor]


def padded_step(aggregation: str) -> Outcome:
    """One AdamW step on [9 completions, longest] with a padding mask and repeated prompts."""
    lm = llama()
    lm.set_attn_implementation("eager")
    rows = [(pack, tokens, targets) for pack in GROUPS for tokens, targets in unpacked(pack)]
    longest = max(len(tokens) for _, tokens, _ in rows)
    ids, attended = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest)
    advantages, trained = torch.zeros(len(rows), longest), torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, (pack, tokens, targets) in enumerate(rows):
        ids[row, : len(tokens)] = torch.from_numpy(pack.token_ids[tokens])
        attended[row, : len(tokens)] = 1
        span = slice(len(tokens) - len(targets), len(tokens))
        trained[row, span] = True
        advantages[row, span] = torch.from_numpy(pack.columns["advantages"][targets])
    logits = lm(input_ids=ids, attention_mask=attended, use_cache=False).logits[:, :-1]
    logp = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    loss, _ = grpo_loss(
        logp,
        None,
        advantages[:, 1:],
        trained[:, 1:],
        denominator=TOKENS if aggregation == "token" else SEQUENCES,
        aggregation=aggregation,
    )
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(lm.parameters(), OPTIMIZER.grad_clip)
    torch.optim.AdamW(lm.parameters(), lr=OPTIMIZER.lr, eps=OPTIMIZER.eps, weight_decay=0.0).step()
    return Outcome(loss.item(), norm.item(), {name: p.detach().clone() for name, p in lm.named_parameters()})


def packed_step(path: Path, case: Case, rank: int, ranks: int) -> Outcome:
    from pangu_rl.learner.learner import Learner

    spec = LearnerSpec(
        model=ModelConfig(path=str(path), dtype=case.dtype),
        learner=LearnerConfig(zero_stage=case.stage, optimizer=OPTIMIZER, ranks=ranks),
        objective="grpo",
        algorithm=GrpoAlgorithmConfig(aggregation=case.aggregation),
        total_steps=1,
        rank=rank,
        world_size=ranks,
    )
    learner = Learner(spec)
    size = len(GROUPS) // case.packs
    packs = [join(GROUPS[start : start + size]) for start in range(0, len(GROUPS), size)]
    dealing = Dealing(micro_batch_tokens=case.micro_batch_tokens, in_rows=case.stage >= 2)
    batch = split_ranks(packs, ranks, TOKENS, SEQUENCES, dealing)[rank]
    assert len(batch.packs) == (1 if case.micro_batch_tokens else -(-len(packs) // ranks))
    [metrics] = learner.update([batch])
    weights = {name: tensor.clone() for name, tensor in learner.outlet.stream()}
    return Outcome(metrics["loss"], metrics["grad_norm"], weights)


def all_steps(rank: int, ranks: int, path: Path) -> list[dict]:
    return [asdict(packed_step(path, case, rank, ranks)) for case in TWO_RANKS]


@pytest.fixture(scope="module")
def references() -> dict[str, Outcome]:
    return {aggregation: padded_step(aggregation) for aggregation in ("token", "sequence")}


def assert_same_step(case: Case, found: Outcome, expected: Outcome) -> None:
    if case.dtype == "bfloat16":
        # Eight bits of mantissa in every activation: only the scale of the step is comparable.
        assert found.loss == pytest.approx(expected.loss, abs=1e-2)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=2e-2)
        return
    assert found.loss == pytest.approx(expected.loss, abs=TOLERANCE)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
    for name, tensor in expected.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, atol=TOLERANCE, rtol=0)


def test_the_reference_moves_every_weight(references: dict[str, Outcome]) -> None:
    start = dict(llama().named_parameters())
    for name, tensor in references["token"].weights.items():
        assert (tensor - start[name]).abs().max() > 100 * TOLERANCE, name


@pytest.mark.usefixtures("rendezvous")
@pytest.mark.parametrize("case", ONE_RANK, ids=str)
def test_one_rank_equals_the_padded_step(tmp_path: Path, case: Case, references: dict[str, Outcome]) -> None:
    assert_same_step(case, packed_step(save_llama(tmp_path), case, 0, 1), references[case.aggregation])


def test_two_ranks_equal_the_padded_step(tmp_path: Path, references: dict[str, Outcome]) -> None:
    save_llama(tmp_path)
    for outcomes in on_ranks(2, all_steps, tmp_path, tmp_path):
        for case, outcome in zip(TWO_RANKS, outcomes, strict=True):
            assert_same_step(case, Outcome(**outcome), references[case.aggregation])
