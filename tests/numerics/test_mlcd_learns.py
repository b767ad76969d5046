"""The vision-only stage through its command: a real encoder's clusters are the labels, and a new tower learns them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch.nn.functional import normalize

from pangu_rl.config.load import checked
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.monitoring.intervals import wilson
from pretrain.train.vision.batches import BatchReader, MicroBatch
from pretrain.train.vision.labels import make_labels, open_labels
from pretrain.train.vision.learner import VisionLearner
from pretrain.train.vision.picture_file import PictureFile
from pretrain.train.vision.pictures_of_rows import image_at, open_picture_rows
from tests.builders import build_tiny_vl_model
from tests.e2e import runs

pytestmark = pytest.mark.slow
PICTURES, HELD_OUT, CLUSTERS, LABELS, EDGE = 640, 200, 24, 3, 84
EASY_VQA = "cache://data/easy_vqa"


def colours(target: Path) -> dict[str, str]:
    """Picture -> the colour of the shape in it, from the questions that ask for it, which are the rows of `target`."""
    lines = (resolve_path(EASY_VQA) / "sft.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["source"] == "colour"]
    target.write_text("\n".join(kept) + "\n")
    rows = map(json.loads, kept)
    return {row["images"][0]: row["messages"][1]["content"] for row in rows}


def purity(labels: torch.Tensor, truth: list[str]) -> float:
    """Share of the pictures whose cluster is mostly of their kind."""
    names = sorted(set(truth))
    table = np.zeros((int(labels.max()) + 1, len(names)))
    np.add.at(table, (labels.numpy(), [names.index(name) for name in truth]), 1)
    return table.max(1).sum() / len(truth)


def stage(folder: Path) -> VisionStageConfig:
    tree: dict[str, Any] = {
        "model": {"path": str(build_tiny_vl_model(folder / "tiny", dtype="float32")), "dtype": "float32"},
        "data": {
            "train": str(folder / "rows.jsonl"),
            "media_root": EASY_VQA,
            "labels": str(folder / "labels.parquet"),
        },
        "teacher": {"edge": 128, "passes": 20},
        "classes": CLUSTERS,
        "labels": LABELS,
        "cascade": [{"edge": EDGE, "epochs": 40}],
        "loss": {"scale": 16.0, "rate": 1.0},
        "batch": 64,
        "lr": 3e-3,
        "weight_decay": 0.05,
        "learner": {"embedding": 64, "warmup_steps": 10},
        "trainer": {"run_dir": str(folder / "run")},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    return checked(VisionStageConfig, tree, "test")


def labelled(config: VisionStageConfig, path: Path) -> tuple[PictureFile, list[str], torch.Tensor]:
    """The pictures of PICTURES + HELD_OUT of the rows, their names, and their labels."""
    files = open_picture_rows(config)
    make_labels(config, files, path)
    found = open_labels(path, config, files)
    entries = [found.entry(number) for number in range(len(found))]
    names = [image_at(files, entry["row"], entry["picture"]) for entry in entries]
    return found, names, torch.tensor([entry["labels"] for entry in entries])


def write_first(config: VisionStageConfig, found: PictureFile, labels: torch.Tensor) -> None:
    """The labels of all but those that are held out, by the ids of their rows."""
    files = open_picture_rows(config)
    places = [found.entry(number) for number in range(PICTURES)]
    order = sorted(range(PICTURES), key=lambda number: (places[number]["row"], places[number]["picture"]))
    columns = {
        "id": [files.uid(places[number]["row"]) for number in order],
        "picture": [places[number]["picture"] for number in order],
        "labels": labels[order].tolist(),
    }
    pq.write_table(pa.table(columns), resolve_path(config.data.labels))


def hits(learner: VisionLearner, images: list[str], labels: torch.Tensor) -> int:
    """How many of the pictures have, of all learnt centres, one of their own labels' nearest."""
    with torch.no_grad():
        [embedded] = learner._embedded(MicroBatch(*learner.reader.pictures(images, EDGE), None))
        nearest = (embedded @ normalize(learner.centres.weight, dim=1).T).argmax(1, keepdim=True)
    return int((nearest == labels).any(1).sum())


def test_a_tower_learns_the_clusters_of_a_real_encoder(tmp_path):
    config, found = stage(tmp_path), colours(tmp_path / "rows.jsonl")
    every = checked(
        VisionStageConfig,
        config.model_dump() | {"data": config.data.model_dump() | {"pictures": PICTURES + HELD_OUT, "labels": None}},
        "test",
    )
    pictures, images, labels = labelled(every, tmp_path / "all.arrow")
    write_first(config, pictures, labels)
    kinds = [found[name] for name in images]
    base = max(np.unique(kinds, return_counts=True)[1]) / len(kinds)
    assert purity(labels[:, 0], kinds) > base + 0.15

    held_out = images[PICTURES:], labels[PICTURES:]
    learner = VisionLearner(config, "cpu", 0, BatchReader(config, open_picture_rows(config), pictures))
    before = hits(learner, *held_out)
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = runs.run("vit", path)
    assert done.returncode == 0, done.stderr
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("step_*")
    learner.load(checkpoint / "learner")
    after = hits(learner, *held_out)
    print(f"held-out pictures whose nearest centre is theirs: {before} before, {after} after, of {HELD_OUT}")
    # Always the most frequent label would hit so many.
    _, counts = np.unique(held_out[1].numpy(), return_counts=True)
    assert wilson(after, HELD_OUT)[0] > counts.max() / HELD_OUT > wilson(before, HELD_OUT)[0]
    assert wilson(after, HELD_OUT)[0] > wilson(before, HELD_OUT)[1]
