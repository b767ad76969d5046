"""The shipped stages against the papers' tables, and the arithmetic that follows from them."""

from __future__ import annotations

import json

import pytest

from pangu_rl.config.load import checked, load_config
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError
from pretrain.stages import HOME, RECIPES, load_recipe
from tests.contracts.source_tree import ROOT

ALL = {"encoder", "connector", "language"}
STAGES = {stage.name: stage for recipe in RECIPES for stage in load_recipe(recipe, ROOT / HOME)}

TABLE = {
    # name: trained parts, packs, context, rate at start and end, encoder's coefficient, average, tokens in 1e9
    "openpangu_warmup": ({"connector"}, 1024, 24576, 5e-4, 3e-5, None, "token", 35),
    "openpangu_pretraining": (ALL, 1024, 24576, 3e-5, 3e-6, 1.0, "token", 3200),
    "openpangu_annealing": (ALL, 128, 131072, 2.5e-6, 2.5e-6, 1.0, "balanced", 430),
    "openpangu_sft": (ALL, 128, 131072, 2e-5, 2e-6, 0.1, "balanced", 2 * 40),
    "mindvl_warmup": ({"connector"}, 1024, 8192, 2e-4, 2e-5, None, "sample", 256),
    "mindvl_multitask": (ALL, 1024, 8192, 2e-5, 1e-5, 1.0, "sample", 179),
    "mindvl_sft_2k": (ALL, 512, 2048, 1e-5, 0, 1.0, "sample", 12),
    "mindvl_sft_4k": (ALL, 512, 4096, 1e-5, 0, 1.0, "sample", 12),
    "mindvl_sft_8k": (ALL, 512, 8192, 1e-5, 0, 1.0, "sample", 12),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_stage_has_the_numbers_of_its_table(name):
    trained, packs, context, start, end, coefficient, average, billions = TABLE[name]
    stage, config = STAGES[name], STAGES[name].config
    assert set(config.learner.trainable) == trained
    assert (config.trainer.packs_per_step, config.learner.pack_tokens) == (packs, context)
    assert stage.rates == pytest.approx((start, end))
    assert coefficient in (None, config.learner.optimizer.encoder_lr_ratio)
    assert config.algorithm.average == average
    assert config.trainer.tokens == billions * 10**9


def test_the_steps_are_those_that_the_tables_come_to():
    """1024 * 24576 = 25.2M tokens a step: 35B are about 1390 steps, 3.2T about 127k; 128 * 131072 = 16.8M: 430B are
    about 25.6k."""
    assert STAGES["openpangu_warmup"].tokens_per_step == 25_165_824
    assert STAGES["openpangu_annealing"].tokens_per_step == 16_777_216
    steps = {name: stage.config.trainer.steps for name, stage in STAGES.items()}
    assert steps["openpangu_warmup"] == 1391
    assert steps["openpangu_pretraining"] == 127_157
    assert steps["openpangu_annealing"] == 25_630
    assert steps["openpangu_sft"] == 2 * 2384
    assert steps["mindvl_warmup"] == 30_518


@pytest.mark.parametrize("name", [name for name in STAGES if name.startswith("mindvl")])
def test_mindvl_climbs_for_a_tenth_of_the_steps(name):
    config = STAGES[name].config
    assert config.learner.optimizer.warmup_steps == round(0.1 * config.trainer.steps)


def test_mindvl_mixes_multimodal_and_text_by_eight_to_two_then_one_to_one():
    for name, ratio in {"mindvl_multitask": 4.0, "mindvl_sft_2k": 1.0, "mindvl_sft_8k": 1.0}.items():
        shares = STAGES[name].config.data.shares
        assert (shares["multimodal"] + shares["web_to_code"]) / shares["text"] == ratio


def test_pictures_are_shown_within_the_papers_limits():
    for name, stage in STAGES.items():
        tokens = {"mindvl_sft_2k": 1280, "mindvl_sft_4k": 3072, "mindvl_sft_8k": 4096}.get(name, 2304)
        assert stage.config.data.min_pixels == 4 * 28**2
        assert stage.config.data.max_pixels == tokens * 28**2


def test_the_alignment_freezes_the_language_model_and_then_only_that():
    trained = [set(STAGES[f"openpangu_align_{part}"].config.learner.trainable) for part in ("connector", "encoder")]
    assert trained == [{"connector"}, {"encoder", "connector"}]


@pytest.mark.parametrize("name", ["align_encoder", "pretraining", "annealing", "sft"])
def test_a_stage_starts_where_the_one_before_ends(name):
    name, names = f"openpangu_{name}", RECIPES["openpangu"]
    before = STAGES[names[names.index(name) - 1]]
    assert STAGES[name].config.model.path == before.config.trainer.run_dir


def test_the_encoders_cascade():
    """660M pictures, 30 + 2 + 1 epochs: 21.78B samples; ten labels of two million classes."""
    clusters = load_config(VisionStageConfig, ROOT / "configs/vit/openpangu_clusters.yaml")
    assert [(step.edge, step.epochs) for step in clusters.cascade] == [(224, 30), (336, 2), (560, 1)]
    assert clusters.epochs * clusters.data.pictures == 21_780_000_000
    assert (clusters.classes, clusters.labels) == (2_000_000, 10)
    regions = load_config(VisionStageConfig, ROOT / "configs/vit/openpangu_regions.yaml")
    assert (regions.loss.draw, regions.loss.margin, regions.loss.scale) == ("rice", 0.3, 64.0)


def stage(**sections) -> PretrainConfig:
    trainer = {"run_dir": "r", "packs_per_step": 4} | sections.pop("trainer", {})
    tree = {"model": {"path": "m"}, "data": {"train": "t.jsonl"}, "trainer": trainer, "learner": {"pack_tokens": 100}}
    return checked(PretrainConfig, tree | sections, "test")


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.config.learner.pack_tokens > 2**15])
def test_long_packs_are_shared_by_ranks_that_divide_the_released_models_heads(name):
    heads = json.loads((ROOT / "configs/models/openpangu_vl_7b/config.json").read_text())["num_key_value_heads"]
    learner = STAGES[name].config.learner
    assert heads % learner.sequence_parallel == 0
    assert learner.pack_tokens // learner.sequence_parallel < 24576


def test_steps_follow_from_tokens_unless_they_are_given():
    assert stage(trainer={"tokens": 2000}).trainer.steps == 5
    assert stage(trainer={"tokens": 2000, "steps": 3}).trainer.steps == 3


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, "trainer.steps and trainer.tokens are both null"),
        (
            {"trainer": {"steps": 1}, "learner": {"ranks": 3}},
            "packs_per_step 4 cannot be dealt equally to learner.ranks 3",
        ),
        (
            {"trainer": {"steps": 1}, "learner": {"ranks": 6, "sequence_parallel": 2}},
            "packs_per_step 4 cannot be dealt equally to the 3 groups of 2 learner.ranks",
        ),
        ({"trainer": {"tokens": "many"}}, "trainer.tokens is 'many'"),
        ({"data": {"train": "t", "min_pixels": 4000}, "trainer": {"steps": 1}}, "set both or neither"),
        ({"data": {"train": "t", "plan": "p", "shares": {"a": 1}}, "trainer": {"steps": 1}}, "give the shares to"),
    ],
)
def test_what_cannot_be_is_refused(sections, message):
    with pytest.raises(ConfigError, match=message):
        stage(**sections)
