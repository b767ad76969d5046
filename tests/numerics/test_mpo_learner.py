"""MPO in the learner: packed pairs are their sequences alone, the shift is one number a step, ranks and resume agree.

Everything in float32 with pictures; the tolerances are those of float32 sums in another order.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.objectives import build_objective
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.spec import LearnerSpec
from tests.gloo_ranks import on_ranks
from tests.unit.learner.pair_builders import loss_alone, mini_batches, pair, sft_row, summed_alone
from tests.unit.learner.vl_builders import pangu_vl, picture, save_pangu_vl

pytestmark = pytest.mark.usefixtures("rendezvous")
WIDE, TALL = picture("wide", 2, 3), picture("tall", 4, 1)
PAIRS = [
    pair("wide", [WIDE], (5, 3), (-30.0, -11.0)),
    pair("text", [], (2, 6), (-8.0, -40.0)),
    pair("both", [TALL, WIDE], (4, 4), (-26.0, -19.0)),
    pair("tall", [TALL], (3, 7), (-12.0, -37.0)),
]
ROWS = [sft_row("first", 4), sft_row("second", 6)]
GRADIENT = 1e-5
MPO, DPO = (0.8, 0.2, 1.0), (1.0, 0.0, 0.0)
PACK_TOKENS = {"one pack": 10_000, "several packs": 40}


def spec(
    path: Path, weights: tuple[float, float, float] = MPO, *, rank: int = 0, ranks: int = 1, **options
) -> LearnerSpec:
    # A large eps makes Adam's first step proportional to the gradient: weights then agree as well as gradients do.
    optimizer = OptimizerConfig(lr=1e-2, eps=1e-2, grad_clip=0.1)
    return LearnerSpec(
        model=ModelConfig(path=str(path), dtype="float32"),
        learner=LearnerConfig(optimizer=optimizer, ranks=ranks, **options),
        objective="mpo",
        algorithm=MpoAlgorithmConfig(weights=weights),
        total_steps=4,
        rank=rank,
        world_size=ranks,
    )


def build(path: Path, *args, **options):
    from pangu_rl.learner.learner import Learner

    return Learner(spec(path, *args, **options))


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pangu_vl(tmp_path_factory.mktemp("pangu_vl"))


def gradients(lm: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    lm.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in lm.named_parameters()}


@pytest.mark.parametrize("pack_tokens", PACK_TOKENS.values(), ids=PACK_TOKENS)
@pytest.mark.parametrize("rows", [[], ROWS], ids=["pairs", "pairs and rows"])
def test_packed_pairs_equal_their_sequences_alone(pack_tokens: int, rows: list) -> None:
    lm = pangu_vl()
    lm.set_attn_implementation("sdpa")
    chosen, rejected = summed_alone(lm, PAIRS)
    references = torch.tensor([row.reference for row in PAIRS]).T
    shift = 0.1 * (chosen + rejected - references.sum(0)).mean().item() / 2
    alone = loss_alone(lm, PAIRS, rows, MPO, shift)
    expected = gradients(lm, alone)

    lm.set_attn_implementation(PACKED)
    objective = build_objective(spec(Path("unused")))
    objective.statistic.take(shift)
    [batch] = mini_batches(PAIRS, rows, pack_tokens=pack_tokens)
    assert len(batch.packs) == (1 if pack_tokens > 40 else 3)
    lm.zero_grad()
    total = 0.0
    for pack in batch.packs:
        tensors = PackTensors.of(pack, "cpu")
        with attend_by(tensors.layout):
            loss, _ = objective.loss(*PackedCausalLM(lm, temperature=1.0, chunk=7)(tensors), tensors, batch)
            loss.backward()
        total += loss.item()
    assert total == pytest.approx(alone.item(), abs=GRADIENT)
    for name, parameter in lm.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=GRADIENT, rtol=0, msg=name)
    # A gradient of the tower that is lost would be far above the tolerance.
    for name in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "vision_projection.fc1.bias"):
        assert expected[f"visual.{name}"].abs().max() > 50 * GRADIENT, name


def test_a_pairs_picture_is_encoded_once(model_path: Path) -> None:
    learner = build(model_path)
    patches: list[int] = []
    learner.lm.visual.register_forward_pre_hook(lambda _, inputs: patches.append(len(inputs[0])))
    learner.update(mini_batches(PAIRS[:1]))
    assert patches == [4 * WIDE.tokens]


def steps_alone(path: Path, steps: list[list], weights: tuple[float, float, float]) -> tuple[list[float], dict]:
    """Shift of each step and the last weights, by plain forward passes, AdamW and ten lines for the shift."""
    lm = pangu_vl()
    lm.set_attn_implementation("sdpa")
    adam = torch.optim.AdamW(lm.parameters(), lr=1e-2, eps=1e-2, weight_decay=0.0)
    means, shifts = [], []
    for pairs in steps:
        with torch.no_grad():
            sums = torch.stack(summed_alone(lm, pairs))
        rewards = 0.1 * (sums - torch.tensor([row.reference for row in pairs]).T)
        means.append(rewards.mean().item())
        shifts.append(sum(means) / len(means))
        adam.zero_grad()
        loss_alone(lm, pairs, [], weights, shifts[-1]).backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 0.1)
        adam.step()
    return shifts, dict(lm.named_parameters())


STEPS = [PAIRS[:3], PAIRS[1:], PAIRS]


@pytest.mark.parametrize("pack_tokens", PACK_TOKENS.values(), ids=PACK_TOKENS)
def test_the_shift_is_one_number_a_step_of_the_whole_batch_before_its_use(model_path: Path, pack_tokens: int) -> None:
    shifts, expected = steps_alone(model_path, STEPS, MPO)
    learner = build(model_path)
    updates = [learner.update(mini_batches(pairs, pack_tokens=pack_tokens))[0] for pairs in STEPS]
    assert [update["reward_shift"] for update in updates] == pytest.approx(shifts, abs=1e-5)
    assert len({round(shift, 3) for shift in shifts}) == 3
    for name, tensor in learner.outlet.stream():
        torch.testing.assert_close(tensor, expected[name].detach(), atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize(("weights", "again"), [(MPO, 2), (DPO, 0)], ids=["mpo", "dpo"])
def test_a_pack_is_run_twice_only_for_the_shift_and_never_the_first(
    model_path: Path, weights: tuple[float, float, float], again: int
) -> None:
    learner, forwards = build(model_path, weights), []
    learner.lm.model.register_forward_pre_hook(lambda *_: forwards.append(torch.is_grad_enabled()))
    [metrics] = learner.update(mini_batches(PAIRS, pack_tokens=40))
    assert forwards == [False] * again + [True] * 3
    assert ("reward_shift" in metrics) == (weights is MPO)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_reload_continues_to_the_bit_with_its_shift(model_path: Path, tmp_path: Path, stage: int) -> None:
    first = build(model_path, zero_stage=stage)
    first.update(mini_batches(PAIRS[:2], ROWS))
    first.save(tmp_path).result()
    expected = first.update(mini_batches(PAIRS, pack_tokens=40))
    second = build(model_path, zero_stage=stage)
    second.load(tmp_path)
    assert second.update(mini_batches(PAIRS, pack_tokens=40)) == expected
    again = dict(second.outlet.stream())
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.outlet.stream())
    fresh = build(model_path, zero_stage=stage)
    assert fresh.update(mini_batches(PAIRS, pack_tokens=40))[0]["reward_shift"] != expected[0]["reward_shift"]


def steps_of(path: Path, stage: int, rank: int, ranks: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    learner = build(path, zero_stage=stage, rank=rank, ranks=ranks)
    batches = [mini_batches(pairs, ROWS, pack_tokens=40, ranks=ranks)[rank] for pairs in (PAIRS[:3], PAIRS)]
    return learner.update(batches), {name: tensor.clone() for name, tensor in learner.outlet.stream()}


def of_both_stages(rank: int, ranks: int, path: Path) -> list:
    return [steps_of(path, stage, rank, ranks) for stage in (1, 3)]


def test_two_ranks_take_the_steps_of_one(model_path: Path, tmp_path: Path) -> None:
    """Losses are shares of the global mean, and the shift is that of the global batch on both ranks."""
    expected, weights = steps_of(model_path, 1, 0, 1)
    for one, other in zip(*on_ranks(2, of_both_stages, tmp_path, model_path), strict=True):
        assert one[0] == other[0]
        for found, alone in zip(one[0], expected, strict=True):
            assert found == pytest.approx(alone, abs=1e-5)
        for name, tensor in weights.items():
            torch.testing.assert_close(one[1][name], tensor, atol=1e-5, rtol=0, msg=name)
