"""Embeddings and clusters of pictures: shards of centres in actors, and the whole over Ray, against one process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster import ranges
from pangu_rl.errors import RunError
from pretrain.contrastive.kmeans import BLOCK, HereShards, fit, labels_of
from pretrain.train.vision import teacher
from pretrain.train.vision.actor import CentreActors
from pretrain.train.vision.labels import PLACES, make_labels, open_labels
from pretrain.train.vision.pictures_of_rows import open_picture_rows
from pretrain.train.vision.teacher import EMBEDDINGS
from tests.small_ray import small_ray
from tests.unit.pretrain.train.test_vision import CLASSES, PICTURES, stage, write_pictures

CENTRES, POINTS, WIDTH = BLOCK + 900, 6000, 8


def test_centres_in_actors_give_the_bits_of_one_process() -> None:
    """Two blocks of centres, one a shard; an actor has one thread, so here there is one too."""
    points = np.random.default_rng(0).normal(size=(POINTS, WIDTH)).astype(np.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with small_ray():
        actors = CentreActors(CENTRES, WIDTH, 2, 60.0)
        try:
            found = []
            for shards in (HereShards(CENTRES, WIDTH), actors):
                fit(shards, points, CENTRES, passes=2, batch=2000, seed=1)
                found.append((torch.cat(list(shards.each("centres"))), torch.cat(list(labels_of(shards, points, 10)))))
            assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
        finally:
            actors.close()
            torch.set_num_threads(threads)
        with pytest.raises(RunError, match="shard of centres"):
            actors.each("unused")


@pytest.mark.parametrize(("on_devices", "expected"), [(False, "cpu"), (True, "cuda")])
def test_workers_embed_on_devices_where_the_stage_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_devices: bool, expected: str
) -> None:
    """Both what Ray gives a worker, and where its network is."""
    asked = []

    def tables_of(work: partial, count: int, cluster: Any, workers: int, *, accelerator: Accelerator) -> list:
        asked.extend([workers, accelerator.name, work.args[-1].name])
        raise InterruptedError

    monkeypatch.setattr(teacher, "tables_of", tables_of)
    settings = {"workers": 2, "on_devices": on_devices}
    config = stage(tmp_path, data={"labels": None}, teacher=settings, cluster={"accelerator": "cuda"})
    with pytest.raises(InterruptedError):
        next(teacher.cluster_labels(list, 20, config, tmp_path, "pictures"))
    assert asked == [2, expected, expected]
    assert not (tmp_path / EMBEDDINGS).exists()


@pytest.mark.slow
def test_pictures_embedded_and_clustered_over_ray_have_the_labels_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path)
    monkeypatch.setattr(ranges, "ROWS", 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    try:
        with small_ray():
            for workers in (1, 2):
                settings = {"edge": 32, "workers": workers}
                config = stage(tmp_path, data={"labels": None, "pictures": 10}, teacher=settings)
                files, target = open_picture_rows(config), tmp_path / f"{workers}.arrow"
                make_labels(config, files, target)
                pictures = open_labels(target, config, files)
                found.append([pictures.entry(number) for number in range(len(pictures))])
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] and len(found[0]) == 10 < PICTURES
    assert {label for entry in found[0] for label in entry["labels"]} == set(range(CLASSES))
    assert not any((tmp_path / name).exists() for name in (EMBEDDINGS, PLACES))
