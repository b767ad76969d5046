"""Checkpoints of two ranks: written beside the training, killed while they are, and without a rank's file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from pangu_rl.checkpoint.store import CheckpointStore
from tests.e2e import runs

pytestmark = pytest.mark.slow

STEPS = 6


def write_config(folder: Path, model: Path) -> Path:
    """Fine-tuning by two ranks of ZeRO 1, a checkpoint after every second step."""
    rows = [
        {"messages": [{"role": "user", "content": f"{i} + 3?"}, {"role": "assistant", "content": str(i + 3)}]}
        for i in range(24)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "model": {"path": str(model)},
        "data": {"train": str(folder / "rows.jsonl"), "max_tokens": 128},
        "learner": {"ranks": 2, "optimizer": {"lr": 1e-3}, "pack_tokens": 128},
        "trainer": {
            "run_dir": str(folder / "run"),
            "steps": STEPS,
            "sequences_per_step": 4,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
        },
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = runs.run("sft", write_config(folder, tiny_model))
    assert done.returncode == 0, done.stderr
    return folder


def test_each_file_says_which_rank_wrote_it(whole: Path) -> None:
    for step in (2, 4, 6):
        folder = whole / "run" / "checkpoints" / f"step_{step:06d}"
        files = json.loads((folder / "manifest.json").read_text())["files"]
        by_rank = {rank: {name for name, entry in files.items() if entry.get("rank") == rank} for rank in (0, 1)}
        states = "learner/engine/bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt"
        assert by_rank[1] == {states.format(1), "learner/rng_1.pt"}
        assert by_rank[0] > {states.format(0), "learner/rng_0.pt", "learner/learner.json", "hf/config.json"}
    assert CheckpointStore(whole / "run", keep=9).latest().step == STEPS
    assert not list((whole / "run").glob(".shared*"))
    assert any("time/checkpoint_write" in row for row in runs.metrics(whole / "run"))


def test_killed_while_it_is_written_and_resumed_equals_uninterrupted(
    whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config, run_dir = write_config(tmp_path, tiny_model), tmp_path / "run"
    partial = run_dir / "checkpoints" / ".partial-step_000004" / "learner"
    runs.run_until_killed("sft", config, when=lambda: any(partial.glob("engine/*_states.pt")))
    store = CheckpointStore(run_dir, keep=9)
    assert store.latest().step == 2, "the checkpoint of step 4 was sealed already"
    done = runs.run("sft", config)
    assert done.returncode == 0, done.stderr
    ours, theirs = runs.weights(run_dir, STEPS), runs.weights(whole / "run", STEPS)
    first = runs.weights(run_dir, 2)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any(not torch.equal(first[name], ours[name]) for name in first)
    for mine, other in zip(runs.metrics(run_dir), runs.metrics(whole / "run"), strict=True):
        assert runs.timeless(mine) == runs.timeless(other)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("rng_1.pt", Path.unlink, "is missing"),
        ("engine/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", flip, "sha256"),
    ],
)
def test_a_damaged_file_of_a_rank_is_one_line(
    whole: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], problem: str
) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    newest = tmp_path / "copy/run/checkpoints" / f"step_{STEPS:06d}"
    damage(newest / "learner" / name)
    done = runs.run("sft", tmp_path / "copy/config.yaml", f"run_dir={tmp_path / 'copy/run'}", "trainer.steps=8")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"corrupt checkpoint: {newest / 'learner' / name}" in done.stderr.replace("\n", "")
    assert problem in done.stderr


def test_one_rank_goes_on_from_the_checkpoint_of_two(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    run_dir = tmp_path / "copy/run"
    overrides = (f"run_dir={run_dir}", "learner.ranks=1", "trainer.steps=7")
    done = runs.run("sft", tmp_path / "copy/config.yaml", *overrides)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in runs.metrics(run_dir)] == [1, 2, 3, 4, 5, 6, 7]
    assert not list(run_dir.rglob("*for_1_ranks*"))
