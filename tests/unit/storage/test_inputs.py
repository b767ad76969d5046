"""A stage whose rows, labels and pictures lie in a storage: what is fetched before it starts, and what when due."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pangu_rl.config.paths import remote_root, resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError
from pangu_rl.storage.inputs import bring_inputs
from pangu_rl.storage.space import BOUND, bound
from pretrain.train.vision.batches import BatchReader, MicroBatch, PictureBatch
from pretrain.train.vision.pictures_of_rows import open_picture_rows
from tests.unit.pretrain.train.test_vision import labelled, stage, write_pictures


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_pictures(tmp_path)
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(BOUND, "1")
    return tmp_path


def remote(folder: Path, **data: str) -> VisionStageConfig:
    named = {"train": "rows.jsonl", "labels": "labels.parquet", "media_root": "media"}
    addresses = {key: f"file://{folder / name}" for key, name in named.items()}
    return stage(folder, data=addresses | data, cluster={"remote_cache_gib": 0.5})


def first_batch(config: VisionStageConfig, target: Path) -> MicroBatch:
    reader = BatchReader(config, open_picture_rows(config), labelled(config, target))
    [found] = reader.load(PictureBatch(np.array([4, 0]), 56, 1e-3), 1)
    return found


def test_rows_and_labels_are_there_before_and_pictures_when_they_are_due(folder: Path) -> None:
    config = remote(folder)
    bring_inputs("vit", config)
    assert bound() == 2**29
    assert resolve_path(config.data.train).is_file() and resolve_path(config.data.labels).is_file()
    media = resolve_path(config.data.media_root)
    assert media.is_relative_to(remote_root()) and not media.exists()
    found, expected = first_batch(config, folder / "a.arrow"), first_batch(stage(folder), folder / "b.arrow")
    assert torch.equal(found.patches, expected.patches) and torch.equal(found.labels, expected.labels)
    assert sorted(file.name for file in media.iterdir()) == ["p00.png", "p04.png"]


def test_models_and_missing_folders_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path s3://b/m: models are read from disk"):
        bring_inputs("vit", stage(folder, model={"path": "s3://b/m"}))
    with pytest.raises(ConfigError, match=r"data\.media_root file://.*nothing: no folder in its storage"):
        bring_inputs("vit", remote(folder, media_root=f"file://{folder}/nothing"))


def test_what_is_on_disk_is_left_alone(folder: Path) -> None:
    bring_inputs("vit", stage(folder))
    assert bound() == 1 and not remote_root().exists()
