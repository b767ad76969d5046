"""Degree s equals degree 1: ranks that share every pack take the step of one rank that runs it alone.

In float32 the order of sums is all that differs, so gradients agree to 1e-5 of each tensor's largest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig
from pangu_rl.data.packs.batching import empty_pack, pack_counts, split_ranks
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch, Pack
from tests.gloo_ranks import on_ranks
from tests.unit.learner.builders import llama, plain_pack, save_llama, tree_pack
from tests.unit.learner.pair_builders import mini_batches, pair, sft_row
from tests.unit.learner.vl_builders import group, packed, pangu_vl, picture, save_pangu_vl

RELATIVE = 1e-5
OPTIMIZER = OptimizerConfig(lr=1e-2, eps=1e-2, grad_clip=1e6)
"""A large eps makes Adam's step proportional to the gradient: weights then agree as well as gradients do."""
ALGORITHMS = {
    "sft": SupervisedConfig(average="balanced"),
    "grpo": GrpoAlgorithmConfig(aggregation="sequence"),
    "gspo": GrpoAlgorithmConfig(loss="gspo", correction={"level": "sequence", "high": 1.5}, kl_weight=0.1),
    "mpo": MpoAlgorithmConfig(weights=(0.8, 0.2, 1.0)),
}
WIDE, TALL, LARGE = picture("wide", 2, 3), picture("tall", 4, 1), picture("large", 5, 6)


def text_packs() -> list[Pack]:
    """Of 59 tokens (the first slice of two ends within the second sequence), 41, 7, and one without a target."""
    rows = [[17, 30, 12], [41], [7]]
    made = [
        plain_pack([[(7 * i + n) % 90 + 3 for i in range(n)] for n in lengths], [1] * len(lengths)) for lengths in rows
    ]
    numbered = [replace(pack, sequence_ids=pack.sequence_ids + first) for pack, first in zip(made, (0, 3, 4))]
    return [*numbered, empty_pack()]


def vl_packs() -> list[Pack]:
    """Two pictures and a text; one picture, of which one rank alone has work; text alone."""
    return [
        packed([group("shown", [WIDE, LARGE], [5, 3]), group("text", [], [4, 2])])[0],
        packed([group("one", [TALL], [6])])[0],
        packed([group("text", [], [4, 4, 2])])[0],
    ]


@dataclass(frozen=True, slots=True)
class Case:
    data: Literal["text", "vl", "groups", "pairs"]
    objective: Literal["sft", "grpo", "gspo", "mpo"] = "sft"
    stage: Literal[0, 1, 2, 3] = 1
    degree: int = 2
    dtype: str = "float32"
    checkpointing: bool = False

    @property
    def model(self) -> str:
        return "text" if self.data in ("text", "groups") else "vl"


DEFAULT = [
    Case("text", checkpointing=True),
    Case("vl"),
    Case("vl", stage=3),
    Case("groups", "grpo"),
    Case("groups", "gspo"),
    Case("pairs", "mpo"),
]
RESUMED = Case("vl")
REST = [
    Case("text", stage=0),
    Case("text", stage=2),
    Case("text", stage=3, dtype="bfloat16"),
    Case("text", degree=4),
    Case("groups", "grpo", degree=4),
    Case("vl", checkpointing=True),
    Case("vl", stage=2, dtype="bfloat16"),
    Case("pairs", "mpo"),
]
"""On four ranks: two groups of two, or one of four, whose key-value heads are repeated."""


def steps(case: Case, groups: int) -> list[list[MiniBatch]]:
    """[step][group of ranks]"""
    if case.data == "pairs":
        pairs = [
            pair("shown", [WIDE], (5, 3), (-20.0, -11.0)),
            pair("text", [], (4, 6), (-17.0, -22.0)),
            pair("tall", [TALL], (3, 3), (-12.0, -13.0)),
        ]
        return [mini_batches(pairs[:n], [sft_row("row", 5)], pack_tokens=40, ranks=groups) for n in (2, 3)]
    if case.data == "groups":
        trees = [[(6, [9, 4]), (11, [5, 7, 2])], [(3, [14]), (8, [1, 6, 3])]]
        packs = [tree_pack(tree, seed=n, first_sequence=6 * n) for n, tree in enumerate(trees)]
        return [split_ranks(packs, groups, *pack_counts(packs))] * 2
    packs = text_packs() if case.data == "text" else vl_packs()
    return [split_ranks(packs, groups, *pack_counts(packs))] * 2


def build(home: Path, case: Case, rank: int, ranks: int):
    from pangu_rl.learner.learner import Learner

    return Learner(
        LearnerSpec(
            model=ModelConfig(path=str(home / case.model), dtype=case.dtype),
            learner=LearnerConfig(
                zero_stage=case.stage,
                optimizer=OPTIMIZER,
                ranks=ranks,
                sequence_parallel=min(case.degree, ranks),
                gradient_checkpointing=case.checkpointing,
                logprob_chunk=16,
            ),
            objective="grpo" if case.objective == "gspo" else case.objective,
            algorithm=ALGORITHMS[case.objective],
            total_steps=4,
            rank=rank,
            world_size=ranks,
        )
    )


def mine(learner: Any, case: Case) -> list[MiniBatch]:
    config = learner.spec.learner
    return [step[learner.spec.rank // config.sequence_parallel] for step in steps(case, config.groups)]


def outcome(home: Path, case: Case, rank: int, ranks: int) -> dict[str, Any]:
    """What the packing check finds, metrics of two steps, the weights after them, and log-probs of the first pack."""
    learner = build(home, case, rank, ranks)
    checked, batches = asdict(learner.check_packing()), mine(learner, case)
    metrics = learner.update(batches)
    found = {"checked": checked, "metrics": metrics}
    found |= {"weights": {name: tensor.clone() for name, tensor in learner.outlet.stream()}}
    return found | {"logp": torch.from_numpy(learner.log_probs(batches[0].packs[:1])[0])}


def assert_same(found: dict[str, Any], alone: dict[str, Any], start: dict[str, Tensor], case: Case) -> None:
    rough = case.dtype == "bfloat16"
    for ours, theirs in zip(found["metrics"], alone["metrics"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=2e-2 if rough else 1e-6)
        assert ours == pytest.approx(theirs, rel=5e-2 if rough else RELATIVE, abs=5e-2 if rough else RELATIVE)
    if rough:
        return
    for name, weight in alone["weights"].items():
        moved = (weight - start[name]).abs().max().item()
        # The weight itself is rounded to 2^-24 of its size.
        limit = RELATIVE * moved + 2**-23 * weight.abs().max().item()
        torch.testing.assert_close(found["weights"][name], weight, atol=limit, rtol=0, msg=f"{name} of {case}")


def gradients(packs: list[Pack], lm: torch.nn.Module, sequence: Any = None) -> dict[str, Any]:
    """Loss and gradients of the balanced loss without DeepSpeed; what the tower and the first MLP saw of each pack."""
    from pangu_rl.learner.model import PackedCausalLM, PackTensors
    from pangu_rl.learner.objectives import build_objective
    from pangu_rl.learner.packed_attention import PACKED, attend_by

    lm.set_attn_implementation(PACKED)
    seen: dict[str, list[int]] = {"patches": [], "tokens": []}
    lm.model.layers[0].mlp.register_forward_pre_hook(lambda _, args: seen["tokens"].append(args[0].shape[1]))
    if hasattr(lm, "visual"):
        lm.visual.register_forward_pre_hook(lambda _, args: seen["patches"].append(len(args[0])))
    spec = LearnerSpec(
        model=ModelConfig(path=""),
        learner=LearnerConfig(),
        objective="sft",
        algorithm=ALGORITHMS["sft"],
        total_steps=1,
    )
    objective, model = build_objective(spec), PackedCausalLM(lm, temperature=1.0, chunk=16)
    tokens, sequences = pack_counts(packs)
    step, total = MiniBatch(packs=tuple(packs), loss_tokens=tokens, loss_sequences=sequences), 0.0
    for pack in packs:
        batch = PackTensors.of(pack, "cpu", sequence)
        with attend_by(batch.layout):
            loss, _ = objective.loss(*model(batch), batch, step)
            loss.backward()
        total += loss.item()
    found = {name: parameter.grad for name, parameter in lm.named_parameters()}
    if sequence is not None:
        for gradient in found.values():
            dist.all_reduce(gradient, group=sequence.group)
    return {"loss": total, "gradients": found, **seen}


def two_ranks(rank: int, ranks: int, home: Path) -> dict[str, Any]:
    """Gradients and steps of every case, a checkpoint, and the step after that of a single rank."""
    from pangu_rl.learner.parallel.sequence_parallel import open_sequence_group

    sequence = open_sequence_group(ranks)
    found = {"text": gradients(text_packs(), llama(), sequence), "vl": gradients(vl_packs(), pangu_vl(), sequence)}
    found["steps"] = [outcome(home, case, rank, ranks) for case in DEFAULT]
    save_first_step(home, rank, ranks)
    return found | {"resumed": second_step(home, rank, ranks, after=1)}


def folder_of(home: Path, ranks: int) -> Path:
    folder = home / f"of_{ranks}" / "learner"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_first_step(home: Path, rank: int, ranks: int) -> None:
    learner = build(home, RESUMED, rank, ranks)
    learner.update(mine(learner, RESUMED)[:1])
    learner.save(folder_of(home, ranks)).result()


def second_step(home: Path, rank: int, ranks: int, *, after: int) -> dict[str, Any]:
    """Its metrics and weights, after the first step of another number of ranks."""
    learner = build(home, RESUMED, rank, ranks)
    learner.load(folder_of(home, after))
    metrics = learner.update(mine(learner, RESUMED)[1:])
    return {"metrics": metrics, "weights": {name: weight.clone() for name, weight in learner.outlet.stream()}}


def four_ranks(rank: int, ranks: int, home: Path) -> list[dict[str, Any]]:
    return [outcome(home, case, rank, ranks) for case in REST]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, rendezvous: None) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_llama(folder / "text")
    save_pangu_vl(folder / "vl")
    return folder


@pytest.fixture(scope="module")
def shared(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By rank, what two ranks of degree 2 found."""
    save_first_step(home, 0, 1)
    return on_ranks(2, two_ranks, tmp_path_factory.mktemp("ranks"), home)


@pytest.mark.parametrize("name", ["text", "vl"])
def test_every_gradient_is_that_of_one_rank(shared: list[dict[str, Any]], name: str) -> None:
    alone = gradients(text_packs(), llama()) if name == "text" else gradients(vl_packs(), pangu_vl())
    for rank in shared:
        assert rank[name]["loss"] == pytest.approx(alone["loss"], abs=1e-6)
        for parameter, expected in alone["gradients"].items():
            limit = RELATIVE * expected.abs().max().item()
            assert limit > 0, parameter
            torch.testing.assert_close(rank[name]["gradients"][parameter], expected, atol=limit, rtol=0, msg=parameter)


def test_each_rank_runs_half_of_the_tokens_and_its_deal_of_the_pictures(shared: list[dict[str, Any]]) -> None:
    """Packs of 59, 41, 7 and 1 tokens are padded to even ones. Pictures of 24 and 120 patches are one for each rank, a
    single one of 16 leaves the other rank a blank of 4, and so does the blank of a text, of 8."""
    for rank in shared:
        assert rank["text"]["tokens"] == [30, 21, 4, 1]
        assert rank["vl"]["tokens"] == [-(-pack.num_tokens // 2) for pack in vl_packs()]
    assert [rank["vl"]["patches"] for rank in shared] == [[120, 16, 8], [24, 4, 4]]


@pytest.mark.parametrize("number", range(len(DEFAULT)), ids=[str(case) for case in DEFAULT])
def test_two_ranks_take_the_steps_of_one(home: Path, shared: list[dict[str, Any]], number: int) -> None:
    case = DEFAULT[number]
    # ZeRO 3 of one rank is ZeRO 1.
    expected = outcome(home, replace(case, stage=1), 0, 1)
    start = dict((llama() if case.model == "text" else pangu_vl()).named_parameters())
    for rank in shared:
        assert_same(rank["steps"][number], expected, start, case)
    torch.testing.assert_close(shared[0]["steps"][number]["logp"], expected["logp"], atol=1e-5, rtol=0)


def test_the_packing_check_passes_on_ranks_that_share_a_pack(shared: list[dict[str, Any]]) -> None:
    """Text and pictures, ZeRO 3 too; both ranks find the same."""
    for ours, theirs in zip(*(rank["steps"] for rank in shared), strict=True):
        assert ours["checked"] == theirs["checked"]
        assert max(ours["checked"]["order"], ours["checked"]["plain"]) < 5e-6


def test_a_checkpoint_goes_on_at_another_degree(home: Path, shared: list[dict[str, Any]]) -> None:
    """Two ranks of degree 2 after the first step of one rank, and one rank after theirs."""
    whole = outcome(home, RESUMED, 0, 1)
    expected, start = {**whole, "metrics": whole["metrics"][1:]}, dict(pangu_vl().named_parameters())
    for found in (second_step(home, 0, 1, after=2), *(rank["resumed"] for rank in shared)):
        assert_same(found, expected, start, RESUMED)


@pytest.mark.slow
def test_two_groups_of_two_and_one_of_four(home: Path, tmp_path: Path) -> None:
    found = on_ranks(4, four_ranks, tmp_path, home)
    for number, case in enumerate(REST):
        expected = outcome(home, replace(case, stage=1), 0, 1)
        start = dict((llama() if case.model == "text" else pangu_vl()).named_parameters())
        for rank in found:
            assert_same(rank[number], expected, start, case)
