"""A stage of pre-training through the real command: planned packs with pictures, killed, resumed, on other ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pangu_rl.config.pretrain import PretrainConfig
from pretrain.families.pangu import Pangu
from tests.builders import build_tiny_vl_model
from tests.e2e import runs
from tests.unit.pretrain.train.builders import plan, stage, write_rows

STEPS = 6
PANGU = Pangu({}, Path())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32, so that other numbers of ranks can be compared."""
    return build_tiny_vl_model(tmp_path_factory.mktemp("model") / "tiny", dtype="float32")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Rows, and a plan of them with two packs a step."""
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, count=36)
    plan(of(folder, model), folder)
    return folder


def of(folder: Path, model: Path, run: str = "run", **sections: dict[str, Any]) -> PretrainConfig:
    trainer = {"run_dir": str(folder / run), "steps": STEPS, "checkpoint_every": 2, "keep_checkpoints": 9}
    learner = {"zero_stage": 1, "pack_tokens": 256, "cpu_threads": 1, "optimizer": {"lr": 1e-3, "schedule": "cosine"}}
    sections["trainer"] = trainer | sections.get("trainer", {})
    sections["learner"] = learner | sections.get("learner", {})
    return stage(folder, model, **sections, **{"model": {"path": str(model), "dtype": "float32"}})


def write(config: PretrainConfig) -> Path:
    run_dir = Path(config.trainer.run_dir)
    path = run_dir.with_name(f"{run_dir.name}.yaml")
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def planned(rows: Path, model: Path, run: str, **sections: dict[str, Any]) -> Path:
    data = {"plan": str(rows / "plan")} | sections.pop("data", {})
    return write(of(rows, model, run, data=data, **sections))


@pytest.fixture(scope="module")
def uninterrupted(rows: Path, model: Path) -> Path:
    done = runs.run("pretrain", planned(rows, model, "whole"))
    assert done.returncode == 0, done.stderr
    return rows / "whole"


def test_a_killed_stage_goes_on_to_the_bit(uninterrupted: Path, rows: Path, model: Path) -> None:
    """kill -9 after step 3, with a checkpoint of step 2 and a step prepared ahead."""
    config, run_dir = planned(rows, model, "killed"), rows / "killed"
    runs.run_until_killed("pretrain", config, when=lambda: logged(run_dir) >= 3)
    assert logged(run_dir) < STEPS
    done = runs.run("pretrain", config)
    assert done.returncode == 0, done.stderr
    found, expected = runs.metrics(run_dir), runs.metrics(uninterrupted)
    assert [runs.timeless(row) for row in found] == [runs.timeless(row) for row in expected]
    assert [row["step"] for row in found] == list(range(1, STEPS + 1))
    ours, theirs = runs.weights(run_dir, STEPS), runs.weights(uninterrupted, STEPS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    before = runs.weights(uninterrupted, 2)
    assert any(not torch.equal(before[name], theirs[name]) for name in theirs)


def online(rows: Path, model: Path, run: str, **sections: dict[str, Any]) -> Path:
    """Packed on the way, by shares that change, with a cap on visual tokens; some rows fit into no pack."""
    data = {"shares": {"vl": 3, "text": 1}, "end_shares": {"vl": 1, "text": 1}, "shares_by": "tokens", "pool": 5}
    data |= {"visual_tokens": 150, "on_bad_row": "skip"}
    return write(of(rows, model, run, data=data, **sections))


def test_a_killed_stage_that_packs_online_goes_on_to_the_bit(rows: Path, model: Path) -> None:
    """As above; rows that waited, and those that were measured ahead, come again."""
    whole, killed = (online(rows, model, name) for name in ("online", "online_killed"))
    done = runs.run("pretrain", whole)
    assert done.returncode == 0, done.stderr
    runs.run_until_killed("pretrain", killed, when=lambda: logged(rows / "online_killed") >= 3)
    assert logged(rows / "online_killed") < STEPS
    done = runs.run("pretrain", killed)
    assert done.returncode == 0, done.stderr
    found, expected = runs.metrics(rows / "online_killed"), runs.metrics(rows / "online")
    assert [runs.timeless(row) for row in found] == [runs.timeless(row) for row in expected]
    assert found[-1]["data/skipped"] > 0
    assert all(0 <= row["data/wait_share"] < 1 for row in found)
    ours, theirs = runs.weights(rows / "online_killed", STEPS), runs.weights(rows / "online", STEPS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_metrics_say_what_was_read_and_how_fast(uninterrupted: Path) -> None:
    first, *_, last = runs.metrics(uninterrupted)
    assert 0.5 < first["data/fill"] <= 1
    assert last["data/samples/vl"] > first["data/samples/vl"] > 0
    assert last["data/skipped"] == 0
    assert 0 < last["speed/mfu"] < 1
    assert last["train/lr"] < first["train/lr"] == pytest.approx(1e-3)


def test_two_ranks_that_share_every_pack_train_as_one(uninterrupted: Path, rows: Path, model: Path) -> None:
    """The same packs, each read once; losses equal within rounding, and weights after six steps of Adam."""
    done = runs.run("pretrain", planned(rows, model, "shared", learner={"ranks": 2, "sequence_parallel": 2}))
    assert done.returncode == 0, done.stderr
    assert_same_stage(rows / "shared", uninterrupted)


def assert_same_stage(run_dir: Path, other: Path) -> None:
    found, expected = runs.metrics(run_dir), runs.metrics(other)
    for name in ("step", "data/samples/vl", "data/fill", "train/tokens"):
        assert [row[name] for row in found] == [row[name] for row in expected], name
    assert [row["train/nll"] for row in found] == pytest.approx([row["train/nll"] for row in expected], abs=1e-4)
    ours, theirs = runs.weights(run_dir, STEPS), runs.weights(other, STEPS)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=0, msg=name)


@pytest.mark.slow
def test_a_stage_goes_on_with_other_numbers_of_ranks(uninterrupted: Path, rows: Path, model: Path) -> None:
    """Two steps on one rank, two on two, two on two that share packs: the packs are the same ones, and so are the
    weights."""
    for steps, ranks, degree in ((2, 1, 1), (4, 2, 1), (6, 2, 2)):
        config = planned(rows, model, "moved", learner={"ranks": ranks, "sequence_parallel": degree})
        # The schedule spans the whole stage: the run is stopped by a kill, not by fewer steps.
        if steps < STEPS:
            runs.run_until_killed("pretrain", config, when=lambda done=steps: logged(rows / "moved") >= done + 1)
        else:
            done = runs.run("pretrain", config)
            assert done.returncode == 0, done.stderr
    assert_same_stage(rows / "moved", uninterrupted)


@pytest.mark.slow
def test_the_next_stage_starts_from_the_run_before_and_freezes_what_it_says(uninterrupted: Path, rows: Path) -> None:
    sections = {
        "learner": {"trainable": ["connector"]},
        "algorithm": {"average": "square"},
        "data": {"shares": {"vl": 3, "text": 1}, "pool": 4},
        "trainer": {"steps": 3, "checkpoint_every": 1},
    }
    config = write(of(rows, uninterrupted, "next", **sections))
    done = runs.run("pretrain", config)
    assert done.returncode == 0, done.stderr
    start, end = runs.weights(uninterrupted, STEPS), runs.weights(rows / "next", 3)
    moved = {PANGU.part(name) for name in start if not torch.equal(start[name], end[name])}
    assert moved == {"connector"}
    assert "step_000006/hf" in (rows / "next" / "config.yaml").read_text()


def logged(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0
