"""transformers' vision-language models through the real commands: SFT on pictures, then GRPO from it with vLLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

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


def model_of(folder: Path, kind: str) -> Path:
    return build_tiny_family(folder / "model", kind)


@pytest.mark.parametrize(
    "kind", [kind if kind == DEFAULT else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_two_steps_of_grpo(kind: str, tmp_path: Path) -> None:
    """The probe shows a picture, and its log-probs at the engine are the learner's after every sync: all that trains has
    arrived. Tower, connector and language model move."""
    model = model_of(tmp_path, kind)
    config = runs.write_config(
        tmp_path,
        model,
        model={"path": str(model), "dtype": "float32"},
        data={"train": str(rows(tmp_path, answer="1")), "media_root": str(tmp_path / "media"), "shuffle": False},
        learner={"optimizer": {"lr": 1e-2, "encoder_lr_ratio": 1.0}, "pack_tokens": 256, "zero_stage": 0},
        trainer={"run_dir": str(tmp_path / "run"), "steps": 2, "prompts_per_step": 2},
    )
    done = runs.run("grpo", config)
    assert done.returncode == 0, done.stderr
    logged = runs.metrics(tmp_path / "run")
    assert [row["step"] for row in logged] == [1, 2]
    assert all(row["sync/probe_gap"] < FP32 for row in logged)
    assert all(abs(row["train/sampler_kl"]) < FP32 for row in logged)
    before, after = load_file(model / "model.safetensors"), runs.weights(tmp_path / "run", 2)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    for part in ("visual.blocks.0.", "visual.merger.", "language_model.layers.0."):
        assert any(part in name for name in moved), part
