"""Steps of a multimodal learner: frozen parts, two rates, resume to the bit, and ranks of which one has no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import CheckpointError
from pangu_rl.learner.model import load_causal_lm
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import MiniBatch, Pack
from pretrain.families.pangu import Pangu
from tests.gloo_ranks import on_ranks
from tests.unit.learner.vl_builders import group, packed, picture, save_pangu_vl

pytestmark = pytest.mark.usefixtures("rendezvous")
WIDE, TALL = picture("wide", 2, 3), picture("tall", 4, 1)
SHOWN = packed([group("shown", [WIDE, TALL], [5, 3])])
TEXT = packed([group("text", [], [4, 4, 2])])
PACKS = (*SHOWN, *TEXT)
OPTIMIZER = OptimizerConfig(lr=1e-2, eps=1e-2, grad_clip=0.1)
"""A large eps makes Adam's first step proportional to the gradient: weights then agree as well as gradients do."""
TOKENS, SEQUENCES = sum(len(pack.targets) for pack in PACKS), 5


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_pangu_vl(tmp_path_factory.mktemp("pangu_vl"))
    (path / "preprocessor_config.json").write_text('{"min_pixels": 784}')
    return path


def build(
    path: Path, *, stage: Literal[0, 1, 2, 3] = 1, dtype: str = "float32", rank: int = 0, ranks: int = 1, **options
):
    from pangu_rl.learner.learner import Learner

    return Learner(
        LearnerSpec(
            model=ModelConfig(path=str(path), dtype=dtype),
            learner=LearnerConfig(**({"zero_stage": stage, "optimizer": OPTIMIZER, "ranks": ranks} | options)),
            objective="grpo",
            algorithm=GrpoAlgorithmConfig(),
            total_steps=4,
            rank=rank,
            world_size=ranks,
        )
    )


def batch(*packs: Pack) -> MiniBatch:
    return MiniBatch(packs=packs, loss_tokens=TOKENS, loss_sequences=SEQUENCES)


def weights_of(learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.outlet.stream()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Parts of which any tensor changed."""
    return {Pangu({}, Path()).part(name) for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "trainable", [("connector", "language"), ("connector",), ("encoder",)], ids=lambda parts: "+".join(parts)
)
def test_what_is_not_trainable_keeps_every_bit_and_the_rest_learns(
    model_path: Path, stage: Literal[0, 1, 2, 3], trainable: tuple[str, ...]
) -> None:
    learner = build(model_path, stage=stage, trainable=trainable)
    before = weights_of(learner)
    [metrics] = learner.update([batch(*PACKS)])
    assert moved(before, weights_of(learner)) == set(trainable)
    assert ("lr" in metrics, "lr_encoder" in metrics) == (trainable != ("encoder",), "encoder" in trainable)
    manifest = learner.outlet.publish(1)
    assert {tensor.name for tensor in manifest.tensors} == set(before)
    learner.outlet.close()


def test_a_frozen_tower_keeps_nothing_for_a_backward_pass(model_path: Path) -> None:
    learner = build(model_path, trainable=("connector", "language"))
    graphs = []
    learner.lm.visual.blocks[-1].register_forward_hook(lambda _, args, output: graphs.append(output.requires_grad))
    learner.update([batch(*SHOWN)])
    assert graphs == [False]


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_the_tower_learns_at_its_own_rate_under_the_same_schedule(model_path: Path, stage: Literal[0, 1, 2, 3]) -> None:
    """With no clipping and Adam's first step at a large eps, a tenth of the rate is a tenth of the step."""
    whole = OptimizerConfig(lr=1e-2, eps=1e-2, grad_clip=1e6, schedule="linear", warmup_steps=2)
    tenth = whole.model_copy(update={"encoder_lr_ratio": 0.1})
    start = weights_of(build(model_path, stage=stage))
    steps, rates = [], []
    for optimizer in (whole, tenth):
        learner = build(model_path, stage=stage, optimizer=optimizer)
        [metrics] = learner.update([batch(*PACKS)])
        rates.append((metrics["lr"], metrics["lr_encoder"]))
        steps.append({name: tensor - start[name] for name, tensor in weights_of(learner).items()})
    assert rates == [pytest.approx((5e-3, 5e-3)), pytest.approx((5e-3, 5e-4))]
    for name, step in steps[0].items():
        expected = step * 0.1 if Pangu({}, Path()).part(name) == "encoder" else step
        torch.testing.assert_close(steps[1][name], expected, atol=1e-7, rtol=0, msg=name)
    assert steps[0]["visual.blocks.0.attn.qkv.weight"].abs().max() > 1e-5


@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (1, "bfloat16"), (2, "bfloat16"), (3, "bfloat16")])
def test_a_reload_with_two_rates_continues_to_the_bit(
    model_path: Path, tmp_path: Path, stage: Literal[0, 1, 2, 3], dtype: str
) -> None:
    options = {"optimizer": OPTIMIZER.model_copy(update={"encoder_lr_ratio": 0.1, "schedule": "cosine"})}
    first = build(model_path, stage=stage, dtype=dtype, **options)
    first.update([batch(*PACKS)])
    first.save(tmp_path).result()
    expected = first.update([batch(*PACKS), batch(*TEXT)])
    second = build(model_path, stage=stage, dtype=dtype, **options)
    second.load(tmp_path)
    assert second.update([batch(*PACKS), batch(*TEXT)]) == expected
    before, after = weights_of(first), weights_of(second)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert expected[0]["lr_encoder"] == pytest.approx(0.1 * expected[0]["lr"])


@pytest.mark.parametrize("stage", [1, 3])
def test_a_frozen_tower_resumes_to_the_bit_and_other_parts_are_refused(
    model_path: Path, tmp_path: Path, stage: Literal[0, 1, 2, 3]
) -> None:
    options = {"stage": stage, "dtype": "bfloat16", "trainable": ("connector", "language")}
    first = build(model_path, **options)
    first.update([batch(*PACKS)])
    first.save(tmp_path).result()
    expected = first.update([batch(*PACKS)])
    second = build(model_path, **options)
    second.load(tmp_path)
    assert second.update([batch(*PACKS)]) == expected
    before, after = weights_of(first), weights_of(second)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(CheckpointError, match=r"saved with trainable \['connector', 'language'\], this run has"):
        build(model_path, stage=stage, dtype="bfloat16").load(tmp_path)


@pytest.mark.parametrize("stage", [1, 3])
def test_an_export_has_the_sources_names_and_processor_and_reloads_to_identical_logits(
    model_path: Path, tmp_path: Path, stage: Literal[0, 1, 2, 3]
) -> None:
    from safetensors import safe_open

    learner = build(model_path, stage=stage, dtype="bfloat16", trainable=("connector", "language"))
    learner.update([batch(*PACKS)])
    learner.outlet.export(tmp_path).result()
    names = []
    for folder in (model_path, tmp_path):
        with safe_open(folder / "model.safetensors", framework="np") as file:
            names.append(set(file.keys()))
    assert names[0] == names[1] == {name for name, _ in learner.outlet.stream()}
    assert {name.split(".")[0] for name in names[0]} == {"visual", "model"}
    assert (tmp_path / "preprocessor_config.json").read_text() == '{"min_pixels": 784}'
    loaded = load_causal_lm(ModelConfig(path=str(tmp_path), dtype="bfloat16"))
    loaded.set_attn_implementation("sdpa")
    assert loaded.dtype is torch.bfloat16
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    learner.lm.set_attn_implementation("sdpa")
    prompt = torch.from_numpy(SHOWN[0].token_ids[: SHOWN[0].segment_starts[1]])[None]
    shown = {
        "pixel_values": torch.from_numpy(SHOWN[0].pictures[0].patches),
        "image_grid_thw": torch.tensor([WIDE.grid]),
    }
    prompt = prompt[:, : int(SHOWN[0].picture_tokens[WIDE.tokens - 1]) + 2]
    with torch.no_grad():
        ours = learner.lm(prompt, use_cache=False, **shown).logits
        assert torch.equal(loaded(prompt, use_cache=False, **shown).logits, ours)


Case = tuple[Literal[0, 1, 2, 3], bool]
"""ZeRO stage, and whether the tower is trained."""


def one_step(path: Path, case: Case, rank: int, ranks: int) -> dict[str, object]:
    stage, trained = case
    parts = ("encoder", "connector", "language") if trained else ("language",)
    learner = build(path, stage=stage, rank=rank, ranks=ranks, trainable=parts)
    mine = PACKS if ranks == 1 else (PACKS[rank],)
    [metrics] = learner.update([batch(*mine)])
    # A forward pass alone has its own collectives under ZeRO 3.
    learner.log_probs(mine)
    return {"metrics": metrics, "weights": weights_of(learner)}


def all_steps(rank: int, ranks: int, path: Path, cases: list[Case]) -> list[dict[str, object]]:
    return [one_step(path, case, rank, ranks) for case in cases]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([(1, True), (3, True)], id="default"),
        pytest.param([(0, True), (2, True), (1, False), (3, False)], id="rest", marks=pytest.mark.slow),
    ],
)
def test_a_rank_without_pictures_steps_with_one_that_has_them(
    model_path: Path, tmp_path: Path, cases: list[Case]
) -> None:
    """Rank 0 has two pictures and rank 1 text alone; together they take the step of one rank that has both packs."""
    expected = {trained: one_step(model_path, (1, trained), 0, 1) for trained in {trained for _, trained in cases}}
    for outcomes in on_ranks(2, all_steps, tmp_path, model_path, cases):
        for (stage, trained), found in zip(cases, outcomes, strict=True):
            alone = expected[trained]
            assert found["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], abs=1e-6)
            assert found["metrics"]["grad_norm"] == pytest.approx(alone["metrics"]["grad_norm"], rel=1e-5)
            for name, tensor in alone["weights"].items():
                message = f"{name} at ZeRO {stage}"
                torch.testing.assert_close(found["weights"][name], tensor, atol=1e-6, rtol=0, msg=message)
