"""GRPO on pictures through the real command: real PNG files, vLLM and DeepSpeed; then the same command goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.e2e import runs
from tests.unit.data.vl_folder import draw

SIZES = {"a": (56, 56), "b": (84, 112), "c": (140, 56)}
"""Width and height; 4, 12 and 10 tokens."""
TOKENS = {"a": 4, "b": 12, "c": 10}


@pytest.fixture(scope="module")
def finished(tiny_vl_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step, then a second one by the same command: rows with one picture, two, and none."""
    folder = tmp_path_factory.mktemp("vl")
    for seed, (name, size) in enumerate(SIZES.items()):
        draw(folder / "media" / f"{name}.png", *size, seed=seed)
    shown = [["a.png"], ["b.png", "a.png"], [], ["c.png"]]
    rows = [{"id": f"p{i}", "prompt": "Which?", "answer": "1", "images": images} for i, images in enumerate(shown)]
    config = runs.write_config(
        folder,
        tiny_vl_model,
        data={"train": str(folder / "shown.jsonl"), "media_root": str(folder / "media"), "shuffle": False},
        trainer={"run_dir": str(folder / "run"), "steps": 1, "prompts_per_step": 2},
    )
    (folder / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for steps in (1, 2):
        done = runs.run("grpo", config, f"trainer.steps={steps}")
        assert done.returncode == 0, done.stderr
        assert "instantiate a model of type" not in done.stderr, "a warning of transformers about our own model"
    return folder


def stored(folder: Path) -> list[dict]:
    shards = sorted((folder / "run" / "rollouts").glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


def test_both_steps_trained_and_the_engine_holds_the_towers_weights(finished: Path) -> None:
    """The probe shows a picture: its log-probs agree, so the published tower is the one that the engine sees with."""
    logged = runs.metrics(finished / "run")
    assert [row["step"] for row in logged] == [1, 2]
    assert all(row["train/updates"] == 1 for row in logged)
    assert all(row["sync/probe_gap"] < 0.1 for row in logged)


def test_the_tower_learns(finished: Path) -> None:
    first, second = (runs.weights(finished / "run", step) for step in (1, 2))
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert any(name.startswith("visual.blocks") for name in moved)
    assert any(name.startswith("model.layers") for name in moved)


def test_stored_rows_carry_their_pictures(finished: Path) -> None:
    rows = stored(finished)
    assert [row["prompt_uid"] for row in rows[::4]] == ["p0", "p1", "p2", "p3"]
    assert [[entry["original"] for entry in row["images"]] for row in rows[::4]] == [
        ["a.png"],
        ["b.png", "a.png"],
        [],
        ["c.png"],
    ]
    for row in rows:
        for entry in row["images"]:
            content = (finished / "run" / "rollouts" / entry["path"]).read_bytes()
            assert content == (finished / "media" / entry["original"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert len(list((finished / "run" / "rollouts" / "images").iterdir())) == 3
    with Image.open(finished / "run" / "rollouts" / rows[0]["images"][0]["path"]) as image:
        assert image.size == SIZES["a"]


def test_prompts_hold_one_placeholder_per_token_of_their_pictures(finished: Path, tiny_vl_model: Path) -> None:
    pad = json.loads((tiny_vl_model / "config.json").read_text())["image_token_id"]
    for row in stored(finished):
        expected = sum(TOKENS[Path(entry["original"]).stem] for entry in row["images"])
        assert row["prompt_token_ids"].count(pad) == expected
