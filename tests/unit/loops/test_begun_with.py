"""What a run is resumed with is what it was begun with: settings, model, tokenizer, template, rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pangu_rl.checkpoint.settings import claim, first_difference
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.begun_with import begun_with

SCHEMAS = {"sft": SftConfig, "dpo": DpoConfig, "grpo": GrpoConfig}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": torch.zeros(5000)}, folder / "model.safetensors")
    return folder


def settings(folder: Path, stage: str = "sft", rows: str = "r", **sections: dict) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "model": {"path": str(folder)},
        "data": {"train": "rows.jsonl"},
        "trainer": {"run_dir": "r", "steps": 4},
    }
    if stage == "grpo":
        tree["rewards"] = {"functions": [{"name": "boxed_accuracy"}]}
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return begun_with(stage, SCHEMAS[stage].model_validate(tree), folder, {"rows": rows})


@pytest.mark.parametrize("stage", SCHEMAS)
@pytest.mark.parametrize(
    ("section", "change", "key"),
    [
        ("learner", {"optimizer": {"lr": 0.5}}, "learner.optimizer.lr"),
        ("learner", {"optimizer": {"weight_decay": 0.5}}, "learner.optimizer.weight_decay"),
        ("learner", {"optimizer": {"schedule": "cosine"}}, "learner.optimizer.schedule"),
        ("trainer", {"seed": 3}, "trainer.seed"),
        ("model", {"dtype": "float32"}, "model.dtype"),
        ("data", {"max_tokens": 9}, "data.max_tokens"),
    ],
)
def test_what_decides_the_result_may_not_change(model: Path, stage: str, section: str, change: dict, key: str) -> None:
    if stage == "grpo" and section == "data":
        change, key = {"max_prompt_tokens": 9}, "data.max_prompt_tokens"
    before = settings(model, stage)
    assert first_difference(before, settings(model, stage, **{section: change}))[0] == key
    assert first_difference(before, settings(model, stage)) is None


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("trainer", {"steps": 8}),
        ("trainer", {"run_dir": "elsewhere", "checkpoint_every": 1, "keep_checkpoints": 9}),
        ("learner", {"ranks": 2, "micro_batch_tokens": 8192, "gradient_checkpointing": True}),
        ("data", {"train": "moved.jsonl", "media_root": "moved"}),
        ("monitoring", {"tensorboard": False}),
    ],
)
def test_how_it_runs_and_where_may_change(model: Path, section: str, change: dict) -> None:
    assert settings(model) == settings(model, **{section: change})


@pytest.mark.parametrize("change", [{"zero_stage": 2}, {"zero_stage": 3, "offload": {"optimizer": "cpu"}}])
def test_how_a_checkpoint_is_laid_out_may_not(model: Path, change: dict) -> None:
    """It could not be read."""
    assert first_difference(settings(model), settings(model, learner=change))[0] == "learner.zero_stage"


@pytest.mark.parametrize(
    ("stage", "algorithm", "may"),
    [
        ("sft", {}, False),
        ("sft", {"average": "token"}, True),
        ("sft", {"average": "square"}, True),
        ("sft", {"lambda_token": 0}, True),
        ("sft", {"tau_order": 0, "tau_magnitude": 0}, True),
        ("dpo", {}, True),
        ("grpo", {}, True),
    ],
)
def test_packs_may_change_where_no_loss_knows_them(model: Path, stage: str, algorithm: dict, may: bool) -> None:
    """Eq. (1) has a weighted mean over each pack: of losses 0 and 4 with weights 1.755 and 2.999 it is 2.52 in one pack
    and 2.0 in two."""
    before, now = (settings(model, stage, algorithm=algorithm, learner={"pack_tokens": n}) for n in (2048, 4096))
    found = first_difference(before, now)
    assert found == (None if may else ("learner.pack_tokens", "2048", "4096"))


def test_steps_count_where_the_rate_depends_on_them(model: Path) -> None:
    cosine = {"optimizer": {"schedule": "cosine"}}
    before, now = (settings(model, learner=cosine, trainer={"steps": steps}) for steps in (4, 8))
    assert first_difference(before, now) == ("trainer.steps", "4", "8")


def test_files_are_compared_by_what_they_hold(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("one")
    named = {"chat_template": str(template)}
    before = settings(model, model=named)
    template.write_text("two")
    assert first_difference(before, settings(model, model=named))[0] == "model.chat_template"
    template.write_text("one")
    (model / "tokenizer.json").write_text("{ }")
    assert first_difference(before, settings(model, model=named))[0] == "model.tokenizer_and_processor"
    (model / "tokenizer.json").write_text("{}")
    assert first_difference(before, settings(model, model=named)) is None
    save_file({"w": torch.ones(5000)}, model / "model.safetensors")
    assert first_difference(before, settings(model, model=named))[0] == "model.weights"


def test_another_stage_or_other_rows(model: Path, tmp_path: Path) -> None:
    claim(tmp_path, settings(model))
    with pytest.raises(ConfigError, match=r"was begun with "):
        claim(tmp_path, settings(model, "dpo"))
    with pytest.raises(ConfigError, match=r"begun with data.rows 'r', now it is 's'"):
        claim(tmp_path, settings(model, rows="s"))


def vision(folder: Path, **changes: Any) -> dict[str, Any]:
    tree = {
        "model": {"path": str(folder)},
        "data": {"train": "rows.jsonl", "media_root": "media"},
        "classes": 8,
        "labels": 2,
        "cascade": [{"edge": 56, "epochs": 1}],
        "batch": 4,
        "trainer": {"run_dir": "r", "steps": 4},
    }
    return begun_with("vit", VisionStageConfig.model_validate(tree | changes), folder, {"rows": "r"})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"lr": 0.5}, "lr"),
        ({"classes": 9}, "classes"),
        ({"cascade": [{"edge": 84, "epochs": 1}]}, "cascade"),
        ({"trainer": {"run_dir": "r", "steps": 5}}, "trainer.steps"),
    ],
)
def test_a_vision_stage_too(model: Path, change: dict, key: str) -> None:
    assert first_difference(vision(model), vision(model, **change))[0] == key
    assert first_difference(vision(model), vision(model, learner={"cpu_threads": 1})) is None
