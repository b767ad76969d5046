"""A mixture of experts in miniature through the real commands: its experts are fused in the learner, apart in a
checkpoint, and packed in the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.builders import build_tiny_mixture
from tests.e2e import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_mixture(tmp_path_factory.mktemp("mixture") / "tiny")


def test_sft_tells_how_the_experts_are_loaded(mixture: Path, tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "model": {"path": str(mixture), "dtype": "float32"},
        "data": {"train": str(tmp_path / "rows.jsonl"), "max_tokens": 96},
        "learner": {"optimizer": {"lr": 1e-2}, "pack_tokens": 256},
        "trainer": {"run_dir": str(tmp_path / "run"), "steps": 3, "sequences_per_step": 8},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(tree))
    done = runs.run("sft", tmp_path / "sft.yaml")
    assert done.returncode == 0, done.stderr
    logged = runs.metrics(tmp_path / "run")
    assert logged[-1]["train/loss"] < logged[0]["train/loss"]
    for row in logged:
        # Two experts of four for a token: no expert has more than half of the routes, none less than nothing.
        assert 0.25 <= row["train/expert_share_max"] <= 0.5
        assert 0.0 <= row["train/expert_share_min"] <= 0.25
        assert 1.0 <= row["train/expert_load_max"] <= 2.0
    names = runs.weights(tmp_path / "run", 3)
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in names
    assert not any("gate_up_proj" in name for name in names)


def test_grpo_hands_every_expert_to_the_engine(mixture: Path, tmp_path: Path) -> None:
    """The learning rate moves the weights so far that an expert left as it was would be seen by the second probe."""
    config = runs.write_config(
        tmp_path,
        mixture,
        learner={"optimizer": {"lr": 1e-2}, "pack_tokens": 256},
        rollout={"probe_tolerance": 1e-3},
    )
    done = runs.run("grpo", config, "model.dtype=float32")
    assert done.returncode == 0, done.stderr
    logged = runs.metrics(tmp_path / "run")
    assert [row["step"] for row in logged] == [1, 2]
    assert all(row["train/updates"] == 1 for row in logged)
    # float32 on both sides; the first published expert that an engine does not compute with is 2 nats and more.
    assert all(row["sync/probe_gap"] < 1e-4 for row in logged)
    assert all(row["train/sampler_kl"] < 1e-5 for row in logged)
    assert all(row["train/expert_load_max"] >= 1.0 for row in logged)
