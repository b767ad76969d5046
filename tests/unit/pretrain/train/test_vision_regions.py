"""The text-aware stage: regions of rows, what is refused, and the command on objects and lines of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError, DataError
from pretrain.train.vision.learner import PictureBatch, VisionLearner
from pretrain.train.vision.regions import Place, make_regions, read_regions
from tests.builders import build_tiny_vl_model
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.train.test_vision import run, stage

CLASSES = 3


def of(folder: Path, **sections: Any) -> VisionStageConfig:
    regions = {"per_picture": 2, "min_side": 28} | sections.pop("regions", {})
    loss = {"draw": "rice", "scale": 16.0, "margin": 0.3}
    sections["data"] = {"labels": None} | sections.pop("data", {})
    settings = {"classes": CLASSES, "labels": 1, "loss": loss, "teacher": {"edge": 32}}
    return stage(folder, **settings | {"regions": regions} | sections)


def said(*boxes: str) -> str:
    tags = (f"<|object_ref_start|>it<|object_ref_end|><|box_start|>{box}<|box_end|>" for box in boxes)
    return f"\\boxed{{{''.join(tags)}}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures: two boxes in each of four, a line of text in three, nothing in the last."""
    home = tmp_path_factory.mktemp("regions")
    answers = [said("(000,000),(500,500)", f"(250,{number}00),(750,900)") for number in range(4)]
    answers += ["\\boxed{red}", "\\boxed{a round blue thing}", "\\boxed{seven}", "\\boxed{red}"]
    rows = []
    for number, answer in enumerate(answers):
        draw(home / "media" / f"p{number}.png", 120, 100, seed=number)
        source = "ocr" if number in (4, 5, 6) else "grounding"
        rows.append(
            {"id": str(number), "prompt": "?", "response": answer, "images": [f"p{number}.png"], "source": source}
        )
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_tiny_vl_model(home / "tiny", dtype="float32")
    return home


def test_boxes_and_transcripts_of_rows_are_the_regions(folder: Path, tmp_path: Path) -> None:
    make_regions(of(folder), tmp_path / "regions.parquet")
    found = read_regions(tmp_path / "regions.parquet", of(folder))
    assert list(found) == [f"p{number}.png" for number in range(7)]
    first = found["p1.png"]
    assert [place.box for place in first] == [(0.0, 0.0, 0.5, 0.5), (0.25, 0.1, 0.75, 0.9)]
    assert all(place.text is None and 0 <= place.labels[0] < CLASSES for place in first)
    assert found["p5.png"] == (Place("p5.png", (0.0, 0.0, 1.0, 1.0), "a round blue thing"),)
    again = tmp_path / "again.parquet"
    make_regions(of(folder), again)
    assert read_regions(again, of(folder)) == found
    with pytest.raises(ConfigError, match="classes 20 of 8 objects"):
        make_regions(of(folder, classes=20), again)


def test_a_region_has_the_pixels_that_it_is_shown_at_and_its_tokens_once(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny")
    place = Place("p", (0.25, 0.1, 0.75, 0.9), "red red")
    region = place.region(3, (112, 140), tokenizer)
    assert (region.picture, region.box) == (3, pytest.approx((28.0, 14.0, 84.0, 126.0)))
    assert region.classes == tuple(tokenizer("red red")["input_ids"]) and len(region.classes) == 2
    assert place.region(0, (28, 28), tokenizer).classes == region.classes
    assert len(Place("p", (0, 0, 1, 1), " red red red").region(0, (28, 28), tokenizer).classes) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ["a", "b", "c", "d"]}, "row 1: a region has text"),
        ({"labels": [[0], [1], [3], [0]]}, r"row 3: labels \[3\], the classes are 0 to 2"),
        ({"image": ["a"] * 4}, "1 pictures are fewer than a batch of 4"),
        ({"confidence": None}, "no Parquet with columns image, box, text, labels, confidence"),
    ],
)
def test_regions_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    columns = {
        "image": list("abcd"),
        "box": [[0.0, 0.0, 1.0, 1.0]] * 4,
        "text": pa.array([None] * 4, pa.string()),
        "labels": [[0], [1], [2], [0]],
        "confidence": [1.0] * 4,
    }
    columns = {name: column for name, column in (columns | change).items() if column is not None}
    pq.write_table(pa.table(columns), tmp_path / "regions.parquet")
    with pytest.raises(DataError, match=message):
        read_regions(tmp_path / "regions.parquet", of(folder))


def batch(folder: Path, config: VisionStageConfig, images: list[str]) -> PictureBatch:
    found = read_regions(folder / "regions.parquet", config)
    return PictureBatch(tuple(images), None, tuple(found.get(image, ()) for image in images), edge=84, lr=1e-2)


def test_objects_and_lines_are_learnt_and_a_step_may_lack_one(folder: Path) -> None:
    config = of(folder)
    make_regions(config, folder / "regions.parquet")
    learner = VisionLearner(config, "cpu", 0)
    before = learner.tower.blocks[0].attn.qkv.weight.detach().clone()
    both = batch(folder, config, [f"p{number}.png" for number in (0, 1, 4, 5)])
    steps = [learner.update(both, step) for step in range(1, 13)]
    for name in ("objects", "lines"):
        found = [metrics[name] for metrics in steps]
        assert np.mean(found[-4:]) < 0.8 * np.mean(found[:4])
    assert not torch.equal(learner.tower.blocks[0].attn.qkv.weight, before)
    no_line = learner.update(batch(folder, config, ["p0.png", "p2.png"]), 13)
    assert no_line["lines"] == 0 < no_line["objects"]
    nothing = learner.update(batch(folder, config, ["p7.png"]), 14)
    assert nothing["loss"] == nothing["grad_norm"] == 0


@pytest.mark.slow
def test_the_command_runs_on_two_ranks_of_which_one_may_lack_a_kind(folder: Path) -> None:
    """Four pictures a step, two a rank: of the seven with regions, a rank often has no object, or no line."""
    directory = run(
        of(folder, cascade=[{"edge": 84, "epochs": 12}], learner={"ranks": 2}, trainer={"run_dir": str(folder / "run")})
    )
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    found = [row["train/objects"] for row in rows]
    assert np.mean(found[-4:]) < np.mean(found[:4])
    before = load_file(folder / "tiny/model.safetensors")
    after = load_file(directory / "checkpoints/step_000012/hf/model.safetensors")
    assert any((before[name] != after[name]).any() for name in before if name.startswith("visual.blocks"))
