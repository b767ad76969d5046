"""The vision-only stage and pictures that cannot be used: refused by name, or left out of clusters and of batches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError, DataError
from pretrain.train.vision.batches import BatchReader, PictureBatch
from pretrain.train.vision.labels import make_labels, open_labels, take_labels
from pretrain.train.vision.picture_file import PictureFile
from pretrain.train.vision.pictures_of_rows import image_at, open_picture_rows
from pretrain.train.vision.regions import make_regions, open_regions
from pretrain.train.vision.teacher import _gathered
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.train.test_vision import PICTURES, stage, write_pictures
from tests.unit.pretrain.train.test_vision_regions import of, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The third and the last of twelve pictures are none."""
    home = tmp_path_factory.mktemp("skipped")
    write_pictures(home)
    for name in ("p02.png", "p11.png"):
        (home / "media" / name).write_bytes(b"no picture")
    return home


def labels_of_pictures(config: VisionStageConfig, target: Path) -> dict[str, list[int]]:
    files = open_picture_rows(config)
    make_labels(config, files, target)
    found = open_labels(target, config, files)
    entries = [found.entry(number) for number in range(len(found))]
    return {image_at(files, entry["row"], entry["picture"]): entry["labels"] for entry in entries}


def test_clusters_are_of_the_pictures_that_can_be_used(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The labels are those of rows that do not name the others at all."""
    data = {"labels": None, "on_bad_row": "skip"}
    found = labels_of_pictures(stage(folder, data=data, teacher={"edge": 32}), tmp_path / "labels.arrow")
    sound = [f"p{number:02d}.png" for number in range(PICTURES) if number not in (2, 11)]
    assert list(found) == sound
    assert [line.split("'")[1] for line in caplog.messages] == ["p02.png", "p11.png"]
    rows = [{"id": name, "images": [name]} for name in sound]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = stage(folder, data={"train": str(tmp_path / "rows.jsonl"), "labels": None}, teacher={"edge": 32})
    assert labels_of_pictures(alone, tmp_path / "alone.arrow") == found


def test_unless_told_to_skip_the_first_ends_the_stage_by_its_name(folder: Path, tmp_path: Path) -> None:
    config = stage(folder, data={"labels": None}, teacher={"edge": 32})
    with pytest.raises(DataError, match=r"p02\.png': is no PNG.*data\.on_bad_row to skip"):
        labels_of_pictures(config, tmp_path / "labels.arrow")


def test_fewer_usable_pictures_than_classes_are_refused_before_they_are_clustered(folder: Path, tmp_path: Path) -> None:
    data = {"labels": None, "on_bad_row": "skip", "pictures": 12}
    config = stage(folder, data=data, teacher={"edge": 32}, classes=11)
    with pytest.raises(ConfigError, match="classes 11 of 10 pictures"):
        labels_of_pictures(config, tmp_path / "labels.arrow")


def test_a_row_that_is_none_is_left_out_too(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"id": "a", "images": ["p00.png"]}, {"id": "b", "images": 7}, {"id": "c", "images": ["p01.png"]}]
    rows += [{"id": f"p{number}", "images": [f"p{number:02d}.png"]} for number in range(3, 9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": str(tmp_path / "rows.jsonl"), "labels": None, "on_bad_row": "skip"}
    found = labels_of_pictures(stage(folder, data=data, teacher={"edge": 32}), tmp_path / "labels.arrow")
    assert list(found) == ["p00.png", "p01.png", *(f"p{number:02d}.png" for number in range(3, 9))]
    assert "row 2 (b)" in caplog.text
    refusing = stage(folder, data=data | {"on_bad_row": "refuse"}, teacher={"edge": 32})
    with pytest.raises(DataError, match=r"row 2 \(b\).*data\.on_bad_row to skip"):
        labels_of_pictures(refusing, tmp_path / "labels.arrow")


def reader_of(folder: Path, target: Path, **data: str) -> tuple[BatchReader, PictureFile]:
    config = stage(folder, data=data, learner={"micro_batch": 2})
    files = open_picture_rows(config)
    take_labels(config, files, target)
    pictures = open_labels(target, config, files)
    return BatchReader(config, files, pictures), pictures


def test_the_next_picture_of_the_part_stands_for_one_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    """Of the part 1, 2 | 11, 0 in micro-batches of two: 0 stands for 2, since 11 is none either, and for 11."""
    reader, pictures = reader_of(folder, tmp_path / "labels.arrow", on_bad_row="skip")
    parts = reader.load(PictureBatch(np.array([1, 2, 11, 0]), 56, 1e-3), 1)
    expected = [reader.load(PictureBatch(np.array(own), 56, 1e-3), 1)[0] for own in ([1, 0], [0, 0])]
    for part, other in zip(parts, expected, strict=True):
        assert torch.equal(part.patches, other.patches) and torch.equal(part.grids, other.grids)
    assert [part.labels.tolist() for part in parts] == [
        [pictures.entry(number)["labels"] for number in own] for own in ([1, 0], [0, 0])
    ]
    assert [[reason.split("'")[1] for reason in part.skipped] for part in parts] == [["p02.png"], ["p11.png"]]
    with pytest.raises(DataError, match=r"none of 2 pictures of a rank can be used: .*p02\.png"):
        reader.load(PictureBatch(np.array([2, 11]), 56, 1e-3), 1)
    refusing, _ = reader_of(folder, tmp_path / "labels.arrow")
    with pytest.raises(DataError, match=r"p02\.png.*data\.on_bad_row to skip"):
        refusing.load(PictureBatch(np.array([1, 2]), 56, 1e-3), 1)


def test_regions_of_a_picture_that_is_none_are_left_out(tmp_path: Path) -> None:
    """Of five pictures with two objects each the second is none; a line of text in it is not looked at before."""
    rows = []
    for number in range(5):
        draw(tmp_path / "media" / f"p{number}.png", 120, 100, seed=number)
        answer = said("(000,000),(500,500)", "(250,100),(750,900)")
        rows.append({"id": str(number), "prompt": "?", "response": answer, "images": [f"p{number}.png"]})
    (tmp_path / "media" / "p1.png").write_bytes(b"no picture")
    shutil.copy(tmp_path / "media" / "p1.png", tmp_path / "media" / "p5.png")
    rows.append({"id": "5", "prompt": "?", "response": "red", "images": ["p5.png"], "source": "ocr"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = of(tmp_path, data={"on_bad_row": "skip"})
    files = open_picture_rows(config)
    make_regions(config, files, tmp_path / "regions.arrow")
    found = open_regions(tmp_path / "regions.arrow", config, files)
    entries = [found.entry(number) for number in range(len(found))]
    assert [(entry["row"], len(entry["regions"])) for entry in entries] == [(0, 2), (2, 2), (3, 2), (4, 2), (5, 1)]
    assert all(len(region["labels"]) == 1 for entry in entries[:-1] for region in entry["regions"])


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_points_are_moved_to_the_front_in_their_order(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretrain.train.vision.teacher.ROWS", rows)
    points = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert _gathered(points, np.array([0, 1, 3, 4, 7]))[:, 0].tolist() == [0, 2, 6, 8, 14]
    untouched = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert _gathered(untouched, np.arange(3))[:, 0].tolist() == [0, 2, 4]
