"""Engines and learner that take turns on the same devices: real vLLM, real DeepSpeed, and a split run's results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e import runs
from tests.unit.data.vl_folder import draw


def result(folder: Path, model: Path, *overrides: str, steps: tuple[int, ...] = (3,), **sections: Any) -> dict:
    """What is left of a run of three steps with evaluations and checkpoints on the way."""
    folder.mkdir()
    config = runs.write_config(
        folder,
        model,
        learner={"optimizer": {"lr": 1e-2}, "pack_tokens": 256},
        algorithm={"mini_batches": 2},
        trainer={"run_dir": str(folder / "run"), "steps": 3, "prompts_per_step": 2, "checkpoint_every": 1},
        **sections,
    )
    heldout = [{"id": f"h{i}", "prompt": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(3)]
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in heldout))
    for count in steps:
        done = runs.run(
            "grpo",
            config,
            *overrides,
            f"data.heldout={folder / 'heldout.jsonl'}",
            f"trainer.steps={count}",
            "trainer.eval_every=2",
        )
        assert done.returncode == 0, done.stderr
    return {
        "drawn": runs.rollouts(folder / "run"),
        "weights": runs.weights(folder / "run", 3),
        "metrics": runs.metrics(folder / "run"),
    }


@pytest.fixture(scope="module")
def split(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return result(tmp_path_factory.mktemp("runs") / "split", tiny_model)


def require_equal(found: dict, split: dict) -> None:
    """Tokens, log-probs, rewards, metrics that are no times, and weights, to the bit."""
    assert found["drawn"] == split["drawn"] and len(found["drawn"]) == 24
    for ours, theirs in zip(found["metrics"], split["metrics"], strict=True):
        names = [name for name in theirs if name.startswith(("train/", "reward/", "heldout/", "sync/"))]
        assert {name: ours[name] for name in names} == {name: theirs[name] for name in names} and names
    assert all(torch.equal(found["weights"][name], weight) for name, weight in split["weights"].items())


def test_a_shared_run_gives_what_a_split_one_does(split: dict, tiny_model: Path, tmp_path: Path) -> None:
    shared = result(tmp_path / "shared", tiny_model, "rollout.placement=shared")
    require_equal(shared, split)
    trained = [row for row in shared["metrics"] if "time/train" in row]
    assert len(trained) == 3 and all(row["time/switch"] > 0 for row in trained)
    assert not any("time/switch" in row for row in split["metrics"])
    assert len({tuple(row["token_ids"]) for row in shared["drawn"]}) > 20, "the rows differ, so that equality says much"


@pytest.mark.slow
def test_so_does_one_whose_engines_keep_their_weights_and_one_that_stops_on_the_way(
    split: dict, tiny_model: Path, tmp_path: Path
) -> None:
    kept = result(tmp_path / "kept", tiny_model, "rollout.placement=shared", "rollout.sleep_level=1")
    require_equal(kept, split)
    resumed = result(tmp_path / "resumed", tiny_model, "rollout.placement=shared", steps=(1, 3))
    assert resumed["drawn"] == split["drawn"]
    assert all(torch.equal(resumed["weights"][name], weight) for name, weight in split["weights"].items())


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_engines_and_two_ranks_share(tiny_model: Path, tmp_path: Path, stage: int) -> None:
    ranks = ("learner.ranks=2", f"learner.zero_stage={stage}", "rollout.actors=2")
    split = result(tmp_path / "split", tiny_model, *ranks)
    require_equal(result(tmp_path / "shared", tiny_model, *ranks, "rollout.placement=shared"), split)


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [False, True], ids=["text", "pictures"])
def test_the_configurations_for_one_device_run_in_miniature(
    pictures: bool, tiny_model: Path, tiny_vl_model: Path, tmp_path: Path
) -> None:
    """The shipped file itself, with a small model and few rows; the device is this machine's processor."""
    rows = [{"id": f"p{i}", "prompt": "Which?", "answer": "1"} for i in range(4)]
    if pictures:
        draw(tmp_path / "a.png", 56, 56, seed=0)
        rows = [row | {"images": ["a.png"]} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = runs.run(
        "grpo",
        runs.REPO / "configs" / "quickstart" / ("grpo_vl_1gpu.yaml" if pictures else "grpo_text_1gpu.yaml"),
        f"model.path={tiny_vl_model if pictures else tiny_model}",
        "start=null",
        f"data.train={tmp_path / 'rows.jsonl'}",
        f"data.heldout={tmp_path / 'rows.jsonl'}",
        *([f"data.media_root={tmp_path}"] if pictures else []),
        f"trainer.run_dir={tmp_path / 'run'}",
        "trainer.steps=2",
        "trainer.checkpoint_every=null",
        "trainer.prompts_per_step=4",
        "rollout.kv_cache_gib=0.1",
        "cluster.accelerator=cpu",
        "cluster.object_store_gib=0.1",
    )
    assert done.returncode == 0, done.stderr
    assert [row["time/switch"] > 0 for row in runs.metrics(tmp_path / "run") if "time/train" in row] == [True, True]
