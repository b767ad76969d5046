"""The vision-only stage: which pictures at which step, its labels, and the command: killed, resumed, on two ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pangu_rl.config.load import checked
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError, DataError
from pretrain.families.pangu import Pangu
from pretrain.train.vision.labels import picture_names, read_labels
from pretrain.train.vision.learner import PictureBatch, VisionLearner
from pretrain.train.vision.run import Cascade
from tests.builders import build_tiny_vl_model
from tests.e2e import runs
from tests.unit.data.vl_folder import draw

PICTURES, CLASSES, LABELS = 12, 5, 2


def stage(folder: Path, /, **sections: Any) -> VisionStageConfig:
    tree: dict[str, Any] = {
        "model": {"path": str(folder / "tiny"), "dtype": "float32"},
        "data": {
            "train": str(folder / "rows.jsonl"),
            "media_root": str(folder / "media"),
            "labels": str(folder / "labels.parquet"),
        },
        "classes": CLASSES,
        "labels": LABELS,
        "cascade": [{"edge": 56, "epochs": 2}, {"edge": 84, "epochs": 1, "lr_factor": 0.5}],
        "loss": {"scale": 16.0, "rate": 0.5},
        "batch": 4,
        "lr": 1e-2,
        "learner": {"embedding": 8, "cpu_threads": 1, "warmup_steps": 2},
        "trainer": {"run_dir": str(folder / "run"), "checkpoint_every": 4, "keep_checkpoints": 9},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return checked(VisionStageConfig, tree, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vision")
    write_pictures(home)
    return home


def write_pictures(home: Path) -> None:
    """Twelve pictures of several sizes, their rows, labels and a tiny model."""
    names = [f"p{number:02d}.png" for number in range(PICTURES)]
    for number, name in enumerate(names):
        draw(home / "media" / name, 60 + 9 * number, 90, seed=number)
    rows = [
        {"id": str(number), "prompt": "What?", "response": "A thing.", "images": [name, names[0]]}
        for number, name in enumerate(names)
    ]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = np.random.default_rng(0).permuted(np.tile(np.arange(CLASSES), (PICTURES, 1)), axis=1)[:, :LABELS]
    pq.write_table(pa.table({"image": names, "labels": labels.tolist()}), home / "labels.parquet")
    build_tiny_vl_model(home / "tiny", dtype="float32")


def run(config: VisionStageConfig) -> Path:
    directory = Path(config.trainer.run_dir)
    path = directory.with_name(f"{directory.name}.yaml")
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = runs.run("vit", path)
    assert done.returncode == 0, done.stderr
    return directory


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "checkpoints/step_000009/hf/model.safetensors")


def logged(directory: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def losses(directory: Path) -> list[float]:
    return logged(directory, "train/loss")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return run(stage(folder, trainer={"run_dir": str(folder / "whole")}))


def test_the_cascade_by_hand(folder: Path) -> None:
    """12 pictures in batches of 4: three steps an epoch, two epochs at 56 pixels, one at 84 with half the rate."""
    cascade = Cascade(stage(folder), PICTURES)
    assert cascade.steps == 9
    assert [cascade.resolution(step).edge for step in (1, 6, 7, 9)] == [56, 56, 84, 84]
    # Up in two steps, then down by an eighth of the whole way from step 2 to behind step 9.
    assert [cascade.rate(step) for step in (1, 2, 3, 6)] == pytest.approx([5e-3, 1e-2, 1e-2 * 7 / 8, 1e-2 * 4 / 8])
    assert cascade.rate(9) == pytest.approx(1e-2 / 8 * 0.5)
    for first in (1, 4, 7):
        epoch = np.concatenate([cascade.batch(step) for step in range(first, first + 3)])
        assert sorted(epoch) == list(range(PICTURES))
    assert not np.array_equal(cascade.batch(1), cascade.batch(4))


def test_a_tower_in_bfloat16_learns_what_it_learns_in_float32(folder: Path) -> None:
    """Its weights stay float32 and autocast runs it in bfloat16: an eighth of the gradient is more than rounding."""
    norms = []
    for dtype in ("float32", "bfloat16"):
        config = stage(folder, model={"dtype": dtype})
        names, labels = read_labels(folder / "labels.parquet", config)
        learner = VisionLearner(config, "cpu", rank=0)
        metrics = learner.update(PictureBatch(images=names[:4], labels=labels[:4], places=(), edge=56, lr=1e-2), step=1)
        norms.append(metrics["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=0.125)
    assert norms[1] != norms[0]


def test_a_picture_is_taken_once_however_many_rows_show_it(folder: Path) -> None:
    assert picture_names(stage(folder)) == [f"p{number:02d}.png" for number in range(PICTURES)]
    some = picture_names(stage(folder, data={"pictures": 5}))
    assert len(some) == 5 and some == sorted(some)
    with pytest.raises(DataError, match=r"12 pictures, data\.pictures asks for 13"):
        picture_names(stage(folder, data={"pictures": 13}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image": ["a"] * 4, "label": [0] * 4}, "columns image and labels"),
        ({"image": ["a"] * 4, "labels": [[0, 1], [0, 5], [1, 2], [1, 3]]}, r"row 2: labels \[0, 5\]"),
        ({"image": ["a"] * 4, "labels": [[0, 1], [0], [1, 2], [1, 3]]}, r"row 2: labels \[0\]"),
        ({"image": ["a"] * 3, "labels": [[0, 1]] * 3}, "fewer than a batch of 4"),
    ],
)
def test_labels_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, table: Any, message: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "labels.parquet")
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.parquet", stage(folder))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"labels": 5}, "leave no negatives"),
        ({"learner": {"ranks": 3}}, "make it a multiple"),
        ({"cascade": [{"edge": 20, "epochs": 1}]}, "less than a token"),
        ({"regions": {}}, "data.labels are of whole pictures"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(folder: Path, sections: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stage(folder, **sections)


def test_the_tower_is_trained_and_nothing_else(folder: Path, whole: Path) -> None:
    before, after = load_file(folder / "tiny/model.safetensors"), tensors(whole)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {Pangu({}, Path()).part(name) for name in changed} == {"encoder"}
    first = [name for name in before if name.startswith("visual.patch_embed") or ".blocks.0." in name]
    assert changed.issuperset(first)


def test_the_loss_falls(whole: Path) -> None:
    found = losses(whole)
    assert len(found) == 9 and np.mean(found[-3:]) < np.mean(found[:3])


def test_a_run_that_was_cut_short_ends_the_same_to_the_bit(folder: Path, whole: Path) -> None:
    again = folder / "again"
    shutil.copytree(whole, again)
    for step in (8, 9):
        shutil.rmtree(again / f"checkpoints/step_{step:06d}")
    run(stage(folder, trainer={"run_dir": str(again)}))
    one, other = tensors(whole), tensors(again)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses(again) == losses(whole)


def test_two_ranks_train_as_one_does(folder: Path, whole: Path) -> None:
    """Up to float32 rounding, which nine steps of AdamW carry on."""
    two = run(stage(folder, learner={"ranks": 2}, trainer={"run_dir": str(folder / "two")}))
    assert losses(two) == pytest.approx(losses(whole), rel=1e-4)
    assert logged(two, "train/tflop") == pytest.approx(logged(whole, "train/tflop"), rel=1e-6)
    assert all(0 < share < 1 for share in logged(two, "speed/mfu"))
