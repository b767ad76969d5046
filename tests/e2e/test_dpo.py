"""Preference optimisation through the real command: pictures, SFT rows beside the pairs, kill -9 at two points."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.e2e import runs
from tests.e2e.test_bad_input import complaint
from tests.unit.data.vl_folder import draw

SIZES = {"a": (56, 56), "b": (84, 112), "c": (140, 56)}
STEPS = 6


def write_config(folder: Path, model: Path) -> Path:
    """12 pairs, 4 a step with 2 SFT rows; the packs of 160 tokens are several, so that the shift needs its own look."""
    for seed, (name, size) in enumerate(SIZES.items()):
        draw(folder / "media" / f"{name}.png", *size, seed=seed)
    shown = [["a.png"], ["b.png", "a.png"], [], ["c.png"]]
    pairs = [
        {
            "id": f"p{i}",
            "prompt": f"Which is it, {i}?",
            "chosen": f"It is \\boxed{{{i}}}.",
            "rejected": "I do not know it. " * (1 + i % 3),
            "images": shown[i % 4],
        }
        for i in range(12)
    ]
    rows = [
        {"id": f"s{i}", "prompt": f"And {i}?", "response": f"\\boxed{{{i}}}", "images": ["a.png"]} for i in range(5)
    ]
    for name, content in (("pairs", pairs), ("sft", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    tree = {
        "model": {"path": str(model)},
        "data": {
            "train": str(folder / "pairs.jsonl"),
            "sft": str(folder / "sft.jsonl"),
            "sft_share": 1 / 3,
            "media_root": str(folder / "media"),
            "max_tokens": 128,
        },
        "learner": {"optimizer": {"lr": 1e-3}, "pack_tokens": 160},
        "trainer": {"run_dir": str(folder / "run"), "steps": STEPS, "pairs_per_step": 4, "checkpoint_every": 2},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def whole(tiny_vl_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done = runs.run("dpo", write_config(folder, tiny_vl_model))
    assert done.returncode == 0, done.stderr
    return folder


def reference(folder: Path) -> list[str]:
    path = folder / "run" / "reference.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def logged(folder: Path) -> int:
    path = folder / "run" / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow
def test_killed_twice_and_resumed_equals_uninterrupted(whole: Path, tiny_vl_model: Path, tmp_path: Path) -> None:
    """kill -9 of the whole tree while the reference is computed, and after step 3, which no checkpoint has."""
    config = write_config(tmp_path, tiny_vl_model)
    runs.run_until_killed("dpo", config, when=lambda: len(reference(tmp_path)) >= 5)
    assert not logged(tmp_path)
    runs.run_until_killed("dpo", config, when=lambda: logged(tmp_path) >= 3)
    assert 3 <= logged(tmp_path) < STEPS
    done = runs.run("dpo", config)
    assert done.returncode == 0, done.stderr

    assert reference(tmp_path) == reference(whole)
    ours, theirs = runs.weights(tmp_path / "run", STEPS), runs.weights(whole / "run", STEPS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows, expected = runs.metrics(tmp_path / "run"), runs.metrics(whole / "run")
    assert list(map(runs.timeless, rows)) == list(map(runs.timeless, expected))
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))


def test_it_learns_what_is_preferred(whole: Path) -> None:
    """At the start rewards are 0 but for bf16; five steps on, seen pairs have a margin, and the tower has moved."""
    rows = runs.metrics(whole / "run")
    assert abs(rows[0]["train/reward_margin"]) < 0.05
    assert rows[-1]["train/reward_margin"] > 0.5
    assert rows[-1]["train/accuracy"] == 1.0
    assert 0 < rows[-1]["speed/mfu"] < 1
    assert rows[-1]["train/loss_sft"] < rows[0]["train/loss_sft"]
    assert rows[0]["train/lr_encoder"] == pytest.approx(0.1 * rows[0]["train/lr"])
    first, last = runs.weights(whole / "run", 4), runs.weights(whole / "run", STEPS)
    assert any(not torch.equal(first[name], last[name]) for name in first if name.startswith("visual.blocks"))


def test_the_shift_is_the_mean_over_the_steps_of_the_mean_reward(whole: Path) -> None:
    rows = runs.metrics(whole / "run")
    means = [(row["train/reward_chosen"] + row["train/reward_rejected"]) / 2 for row in rows]
    expected = [sum(means[: step + 1]) / (step + 1) for step in range(STEPS)]
    assert [row["train/reward_shift"] for row in rows] == pytest.approx(expected, abs=1e-5)


def test_a_reference_of_other_pairs_or_another_model_is_refused(
    whole: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run directory keeps what it has."""
    before = (whole / "run" / "config.yaml").read_text()
    store = f"data.reference={whole}/run/reference.jsonl"
    few = whole / "few.jsonl"
    few.write_text("".join((whole / "pairs.jsonl").read_text().splitlines(keepends=True)[2:4]))
    run = [monkeypatch, capsys, whole / "config.yaml"]
    line = complaint(*run, f"data.train={few}", store, stage="dpo")
    assert "reference.jsonl: the reference log-probs were made for other pairs: their fingerprint was" in line
    row = {"prompt": "Which?", "chosen": "a", "rejected": "b"}
    few.write_text(json.dumps(row))
    line = complaint(
        *run, f"model.path={tiny_model}", f"data.train={few}", "data.sft=null", "data.sft_share=0", store, stage="dpo"
    )
    assert "reference.jsonl: the reference log-probs were made by another model: its sha256 was" in line
    assert (whole / "run" / "config.yaml").read_text() == before


GOOD = {"id": "a", "prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}
BAD = {
    "equal": (GOOD | {"rejected": "2"}, "chosen and rejected are equal ('2')"),
    "empty": (GOOD | {"chosen": ""}, "key chosen is empty"),
    "no such picture": (GOOD | {"images": ["gone.png"]}, "picture 'gone.png'"),
    "picture that is not named": (
        GOOD | {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        "key images names 0 pictures and messages have 1 image parts",
    ),
    "too long": (GOOD | {"chosen": "one " * 200}, "tokens, data.max_tokens is 128"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_pair_is_named(
    name: str, tiny_vl_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row, reason = BAD[name]
    config = write_config(tmp_path, tiny_vl_model)
    (tmp_path / "bad.jsonl").write_text(json.dumps(GOOD | {"id": "ok"}) + "\n" + json.dumps(row) + "\n")
    line = complaint(monkeypatch, capsys, config, f"data.train={tmp_path}/bad.jsonl", stage="dpo")
    assert "bad.jsonl, row 2: " in line
    assert reason in line
    assert not (tmp_path / "run").exists()


SETTINGS = {
    "weights": (["algorithm.weights=[0, 0, 0]"], ["algorithm.weights are all 0", "[1, 0, 0]"]),
    "share without rows": (["data.sft=null"], ["data.sft is null", "data.sft_share is 0.33"]),
    "rows without a share": (["data.sft_share=0"], ["data.sft_share is 0", "set both"]),
    "share of no row": (["data.sft_share=0.01"], ["data.sft_share 0.01", "4 pairs", "0.2"]),
    "model": (["data.max_tokens=4096"], ["data.max_tokens is 4096", "2048 positions"]),
    "nothing remains": (["data.sft={folder}/pairs_as_sft.jsonl"], ["pairs ask all that its 1 rows ask"]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_exclude_each_other(
    name: str, tiny_vl_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, expected = SETTINGS[name]
    config = write_config(tmp_path, tiny_vl_model)
    row = {"prompt": "Which is it, 0?", "response": "0", "images": ["a.png"]}
    (tmp_path / "pairs_as_sft.jsonl").write_text(json.dumps(row))
    line = complaint(monkeypatch, capsys, config, *(o.format(folder=tmp_path) for o in overrides), stage="dpo")
    assert all(part in line for part in expected), line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one(tiny_vl_model: Path, tmp_path: Path) -> None:
    """In float32, each rank with its own pictures, or both with every pack: losses, gradients and the shift are those
    of the global batch."""
    rows = []
    for ranks, degree in ((1, 1), (2, 1), (2, 2)):
        folder = tmp_path / f"{ranks}_{degree}"
        folder.mkdir()
        config = write_config(folder, tiny_vl_model)
        shared = [f"learner.ranks={ranks}", f"learner.sequence_parallel={degree}"]
        done = runs.run("dpo", config, *shared, "model.dtype=float32", "trainer.steps=2")
        assert done.returncode == 0, done.stderr
        rows.append(list(map(runs.timeless, runs.metrics(folder / "run"))))
    for one, *others in zip(*rows, strict=True):
        assert others == [pytest.approx(one, abs=2e-3, rel=2e-3)] * 2
