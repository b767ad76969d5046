"""Text families through two steps of GRPO by the real command: packed, synced by complete names, learner as engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import build_tiny_family
from tests.e2e import runs

TRAINED = (
    *("qwen2", "mistral", "gemma", "gemma3_text", "phi3", "glm4", "smollm3", "olmo2", "olmo3", "ernie4_5", "exaone4"),
    *("seed_oss", "hunyuan_v1_dense", "starcoder2", "granite", "mixtral", "qwen2_moe", "olmoe", "glm4_moe"),
)
REFUSED = ("falcon_h1", "jamba", "bloom")
"""Of those that `packing_check` refuses, whose tiny models an engine starts on."""

pytestmark = pytest.mark.slow


def config(folder: Path, model: Path) -> Path:
    return runs.write_config(
        folder,
        model,
        data={"train": str(folder / "prompts.jsonl"), "max_prompt_tokens": 96},
        learner={"optimizer": {"lr": 1e-3}, "pack_tokens": 256},
        rollout={"max_model_tokens": 128, "prefix_caching": False, "probe_tolerance": 1e-3},
    )


@pytest.mark.parametrize("family", TRAINED)
def test_a_family_trains(family: str, tmp_path: Path) -> None:
    model = build_tiny_family(tmp_path / "model", family)
    done = runs.run("grpo", config(tmp_path, model), "model.dtype=float32")
    assert done.returncode == 0, done.stderr
    logged = runs.metrics(tmp_path / "run")
    assert [row["step"] for row in logged] == [1, 2]
    # float32 on both sides, of logits of deviation 3 and more.
    assert all(row["sync/probe_gap"] < 2e-4 for row in logged)
    assert all(row["train/updates"] == 1 for row in logged)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_does_not_pack_is_refused_before_anything_is_drawn(family: str, tmp_path: Path) -> None:
    model = build_tiny_family(tmp_path / "model", family)
    done = runs.run("grpo", config(tmp_path, model), "model.dtype=float32")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: model.path: ")
    assert not (tmp_path / "run" / "rollouts").exists() or not list((tmp_path / "run" / "rollouts").glob("*.parquet"))
