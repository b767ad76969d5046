"""Rows with videos through the real commands: engine and learner see the same, the store keeps what was seen, and runs
that are killed go on to the bit."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from pangu_rl.data.prompts import load_prompts
from tests.builders import build_tiny_vl_model
from tests.e2e import runs
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.processing.drawn_videos import draw_video, show_small_frames
from tests.unit.rollout.export.exporting import exported

STEPS = 4
SHOWN = [
    {"videos": ["a.mp4"]},
    {"videos": ["b.mp4"], "time_precise": True},
    {"videos": ["a.mp4", "b.mp4"], "images": ["c.png"]},
    {"videos": ["frames"]},
    {"images": ["c.png"]},
    {},
]
"""What rows show, in turn."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees up to 8 frames of 4 tokens, media, and rows for each stage."""
    folder = tmp_path_factory.mktemp("videos")
    show_small_frames(build_tiny_vl_model(folder / "model"))
    media = folder / "media"
    draw_video(media / "a.mp4", range(0, 240, 6))
    draw_video(media / "b.mp4", range(240, 0, -4), size=(48, 80))
    for index in range(3):
        draw(media / "frames" / f"{index}.png", 70, 50, seed=index)
    draw(media / "c.png", 56, 84)
    asked = [{"id": f"r{n}", "prompt": "What moves?", **SHOWN[n % len(SHOWN)]} for n in range(24)]
    write(folder / "prompts.jsonl", [row | {"answer": "1"} for row in asked])
    write(folder / "rows.jsonl", [row | {"response": f"thing {n}"} for n, row in enumerate(asked)])
    return folder


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def grpo(folder: Path, run: str, **trainer: Any) -> Path:
    path = folder / f"{run}.yaml"
    own = folder / run
    own.mkdir(exist_ok=True)
    config = runs.write_config(
        own,
        folder / "model",
        data={
            "train": str(folder / "prompts.jsonl"),
            "media_root": str(folder / "media"),
            "max_prompt_tokens": 160,
            "shuffle": False,
        },
        rollout={"max_model_tokens": 192},
        learner={"pack_tokens": 512},
        trainer={"run_dir": str(own / "run"), "steps": STEPS, "prompts_per_step": 3, "checkpoint_every": 1} | trainer,
    )
    return config.rename(path)


def supervised(stage: str, folder: Path, run: str) -> Path:
    data = {"train": str(folder / "rows.jsonl"), "media_root": str(folder / "media")}
    trainer: dict[str, Any] = {"run_dir": str(folder / run / "run"), "steps": STEPS, "checkpoint_every": 1}
    tree = {
        "model": {"path": str(folder / "model")},
        "data": data | ({"max_tokens": 256} if stage == "sft" else {}),
        "learner": {"optimizer": {"lr": 1e-3}, "pack_tokens": 256},
        "trainer": trainer | ({"sequences_per_step": 4} if stage == "sft" else {"packs_per_step": 2}),
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def drawn(folder: Path) -> Path:
    done = runs.run("grpo", grpo(folder, "whole"), timeout=800)
    assert done.returncode == 0, done.stderr
    return folder / "whole" / "run"


def test_engine_and_learner_see_the_same_video(drawn: Path) -> None:
    """The first prompt of the probe shows one. In bf16, mean exp|difference| of log-probs: 1.05 is the alarm."""
    logged = runs.metrics(drawn)
    assert [row["step"] for row in logged] == list(range(1, STEPS + 1))
    for row in logged:
        assert math.exp(row["sync/probe_gap"]) < 1.05
        assert row["train/logprob_diff_exp"] < 1.05
        assert row["train/updates"] == 1


def test_the_tower_learns_from_videos(drawn: Path) -> None:
    first, last = (runs.weights(drawn, step) for step in (STEPS - 1, STEPS))
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert any(name.startswith("visual.blocks") for name in moved)


def test_the_store_keeps_what_was_seen(drawn: Path, folder: Path) -> None:
    rows = [row for shard in sorted((drawn / "rollouts").glob("*.parquet")) for row in pq.read_table(shard).to_pylist()]
    first = {row["prompt_uid"]: row for row in reversed(rows)}
    both = first["r2"]["videos"]
    assert [video["original"] for video in both] == ["a.mp4", "b.mp4"] and len(first["r2"]["images"]) == 1
    assert first["r5"]["videos"] == []
    for video in [*both, *first["r0"]["videos"]]:
        content = (drawn / "rollouts" / video["path"]).read_bytes()
        assert content == (folder / "media" / video["original"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == video["sha256"]
    [precise] = first["r1"]["videos"]
    assert precise["seconds"] == [0, 1, 2, 3, 4, 5] and json.loads(first["r1"]["extra"]) == {"time_precise": True}
    [frames] = first["r3"]["videos"]
    assert len(list((drawn / "rollouts" / frames["path"]).iterdir())) == 3


def test_an_export_can_be_trained_on(drawn: Path, tmp_path: Path) -> None:
    output = tmp_path / "exported"
    exported(drawn, output, to="prompts", format="jsonl")
    prompts = {row.uid: row for row in load_prompts(output / "data" / "train-00000.jsonl").records}
    assert all((output / path).exists() for row in prompts.values() for path in (*row.videos, *row.images))
    assert prompts["r1"].time_precise and not prompts["r0"].time_precise
    assert [part["type"] for part in prompts["r2"].messages[0]["content"]] == ["image", "video", "video", "text"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "grpo", "pretrain"])
def test_a_killed_run_with_videos_goes_on_to_the_bit(stage: str, folder: Path) -> None:
    """kill -9 after step 2 of 4."""
    config: Callable[[str], Path] = (
        (lambda run: grpo(folder, run)) if stage == "grpo" else (lambda run: supervised(stage, folder, run))
    )
    whole, killed = (folder / f"{stage}_{name}" / "run" for name in ("whole", "killed"))
    done = runs.run(stage, config(whole.parent.name), timeout=800)
    assert done.returncode == 0, done.stderr
    broken = config(killed.parent.name)
    runs.run_until_killed(stage, broken, when=lambda: _logged(killed) >= 2)
    assert _logged(killed) < STEPS
    done = runs.run(stage, broken, timeout=800)
    assert done.returncode == 0, done.stderr
    assert [runs.timeless(row) for row in runs.metrics(killed)] == [runs.timeless(row) for row in runs.metrics(whole)]
    ours, theirs, before = runs.weights(killed, STEPS), runs.weights(whole, STEPS), runs.weights(whole, STEPS - 1)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any(not torch.equal(before[name], theirs[name]) for name in theirs if name.startswith("visual"))
    if stage == "grpo":
        assert runs.rollouts(killed) == runs.rollouts(whole)


def _logged(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0
