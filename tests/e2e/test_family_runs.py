"""transformers' vision-language models through the real commands: SFT on pictures, then GRPO from it with vLLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pangu_rl.checkpoint.model_folder import model_config
from pretrain.families import family_of
from tests.e2e import runs
from tests.family_builders import KINDS, build_tiny_family
from tests.unit.data.vl_folder import draw

SIZES = {"a": (64, 64), "b": (100, 150), "c": (150, 64)}
"""Width and height."""
SHOWN = (["a.png"], ["b.png", "a.png"], [], ["c.png"])
DEFAULT = "qwen3_vl"
"""The one whose run is no proof of minutes: it has all that the others have, and features for deeper layers."""
EACH = [kind if kind == DEFAULT else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
FP32 = 1e-4
"""Nats between learner and engine after a sync; bf16 weights in either place would be 0.01 apart."""


def rows(folder: Path, **extra: Any) -> Path:
    """Four conversations with one picture, two, none and one."""
    for seed, (name, size) in enumerate(SIZES.items()):
        draw(folder / "media" / f"{name}.png", *size, seed=seed)
    path = folder / "rows.jsonl"
    written = [{"id": f"p{i}", "prompt": "Which?", "images": images} | extra for i, images in enumerate(SHOWN)]
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    return path


def pictures_config(folder: Path, model: Path, path: Path) -> Path:
    """A run of two steps on the rows at `path`."""
    tree = {
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"train": str(path), "media_root": str(folder / "media"), "max_tokens": 192},
        "learner": {"optimizer": {"lr": 1e-2}, "pack_tokens": 256, "zero_stage": 0},
        "trainer": {"run_dir": str(folder / "run"), "steps": 2},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    return config


def moved(model: Path, run_dir: Path) -> set[str]:
    """Parts whose tensors the run has changed; it has all tensors of the model's, and no other."""
    before, after = load_file(model / "model.safetensors"), runs.weights(run_dir, 2)
    assert before.keys() == after.keys()
    family = family_of(model_config(model), model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return {family.part(family.learned_name(name)) for name in changed}


@pytest.mark.parametrize("kind", EACH)
def test_two_steps_of_grpo(kind: str, tmp_path: Path) -> None:
    """The probe shows a picture, and its log-probs at the engine are the learner's after every sync: all that trains
    has arrived. Tower, connector and language model move."""
    model = build_tiny_family(tmp_path / "model", kind)
    config = runs.write_config(
        tmp_path,
        model,
        data={"train": str(rows(tmp_path, answer="1")), "media_root": str(tmp_path / "media"), "shuffle": False},
        learner={"optimizer": {"lr": 1e-2, "encoder_lr_ratio": 1.0}, "pack_tokens": 256, "zero_stage": 0},
    )
    done = runs.run("grpo", config, "model.dtype=float32")
    assert done.returncode == 0, done.stderr
    logged = runs.metrics(tmp_path / "run")
    assert [row["step"] for row in logged] == [1, 2]
    assert all(row["sync/probe_gap"] < FP32 for row in logged)
    assert all(abs(row["train/sampler_kl"]) < FP32 for row in logged)
    assert moved(model, tmp_path / "run") == {"encoder", "connector", "language"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_sft_on_the_connector_alone(kind: str, tmp_path: Path) -> None:
    model = build_tiny_family(tmp_path / "model", kind)
    config = pictures_config(tmp_path, model, rows(tmp_path, response="It is red."))
    done = runs.run("sft", config, "trainer.sequences_per_step=4", "learner.trainable=[connector]")
    assert done.returncode == 0, done.stderr
    first, second = runs.metrics(tmp_path / "run")
    assert second["train/loss"] < first["train/loss"]
    assert moved(model, tmp_path / "run") == {"connector"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_dpo(kind: str, tmp_path: Path) -> None:
    """The first step's policy is the reference: its margin is 0."""
    model = build_tiny_family(tmp_path / "model", kind)
    config = pictures_config(tmp_path, model, rows(tmp_path, chosen="It is red.", rejected="I do not know."))
    done = runs.run("dpo", config, "trainer.pairs_per_step=4")
    assert done.returncode == 0, done.stderr
    first, second = runs.metrics(tmp_path / "run")
    assert abs(first["train/reward_margin"]) < FP32 < second["train/reward_margin"]
    assert moved(model, tmp_path / "run") == {"encoder", "connector", "language"}
