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
from pretrain.contrastive.regions import sample_regions
from pretrain.train.vision.picture_file import PictureFile
from pretrain.train.vision.pictures_of_rows import image_at, open_picture_rows
from pretrain.train.vision.places import Place, places_of
from pretrain.train.vision.regions import make_regions, open_regions, take_regions
from tests.builders import build_tiny_vl_model
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.train.test_vision import gradients_of, learner_of, losses, require_close, run, stage, updated

CLASSES = 3
BOX = [0.0, 0.0, 1.0, 1.0]


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


def made(config: VisionStageConfig, target: Path) -> PictureFile:
    files = open_picture_rows(config)
    make_regions(config, files, target)
    return open_regions(target, config, files)


def by_name(config: VisionStageConfig, found: PictureFile) -> dict[str, tuple[Place, ...]]:
    entries, files = [found.entry(number) for number in range(len(found))], open_picture_rows(config)
    return {image_at(files, entry["row"], entry["picture"]): places_of(entry) for entry in entries}


def test_boxes_and_transcripts_of_rows_are_the_regions(folder: Path, tmp_path: Path) -> None:
    found = by_name(of(folder), made(of(folder), tmp_path / "regions.arrow"))
    assert list(found) == [f"p{number}.png" for number in range(7)]
    first = found["p1.png"]
    assert [place.box for place in first] == [(0.0, 0.0, 0.5, 0.5), (0.25, 0.1, 0.75, 0.9)]
    assert all(place.text is None and 0 <= place.labels[0] < CLASSES for place in first)
    assert found["p5.png"] == (Place((0.0, 0.0, 1.0, 1.0), "a round blue thing"),)
    assert by_name(of(folder), made(of(folder), tmp_path / "again.arrow")) == found
    with pytest.raises(ConfigError, match="classes 20 of 8 objects"):
        made(of(folder, classes=20), tmp_path / "more.arrow")


def test_a_region_has_the_pixels_that_it_is_shown_at_and_its_tokens_once(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny")
    place = Place((0.25, 0.1, 0.75, 0.9), "red red")
    region = place.region(3, (112, 140), tokenizer)
    assert (region.picture, region.box) == (3, pytest.approx((28.0, 14.0, 84.0, 126.0)))
    assert region.classes == tuple(tokenizer("red red")["input_ids"]) and len(region.classes) == 2
    assert place.region(0, (28, 28), tokenizer).classes == region.classes
    assert len(Place((0, 0, 1, 1), " red red red").region(0, (28, 28), tokenizer).classes) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ["a", "b", "c", "d"]}, "row 1: a region has text"),
        ({"labels": [[0], [1], [3], [0]]}, r"row 3: labels \[3\], the classes are 0 to 2"),
        ({"id": ["0", "1", "x", "2"]}, "row 3: id 'x' is of no row"),
        ({"id": ["0", "1", "0", "2"]}, "row 3: id '0' stands there a second time"),
        ({"box": [[0.0, 0.0, 1.0]] * 4}, "row 1: box"),
        (
            {"box": [BOX, [0.0, 0.0, 60.0, 50.0], BOX, BOX]},
            r"row 2: box \[0.0, 0.0, 60.0, 50.0\], its sides are shares",
        ),
        ({"box": [BOX, BOX, [0.5, 0.0, 0.25, 1.0], BOX]}, "row 3: box .* left < right"),
        ({"box": [BOX, BOX, BOX, [0.0, 0.0, 1.0, None]]}, "row 4: box"),
        ({"box": ["0 0 1 1"] * 4}, r"regions.parquet: column box holds string, not list<item: double>"),
        ({"labels": [0, 1, 2, 0]}, r"column labels holds int64, not list<item: int64>"),
        ({"picture": [0, -1, 0, 0]}, "row 2: picture -1, those of a row are numbered from 0"),
        ({"picture": [0, None, 0, 0]}, "row 2: picture None"),
        ({"confidence": None}, "no column confidence"),
    ],
)
def test_regions_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    config = given(tmp_path / "regions.parquet", folder, change)
    with pytest.raises(DataError, match=message):
        take_regions(config, open_picture_rows(config), tmp_path / "regions.arrow")


def given(path: Path, folder: Path, change: dict[str, Any]) -> VisionStageConfig:
    columns = {
        "id": list("0012"),
        "box": [BOX] * 4,
        "text": pa.array([None] * 4, pa.string()),
        "labels": [[0], [1], [2], [0]],
        "confidence": [1.0] * 4,
    }
    pq.write_table(pa.table({name: column for name, column in (columns | change).items() if column is not None}), path)
    return of(folder, regions={"file": str(path)})


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_given_regions_are_put_together_by_picture(folder: Path, tmp_path: Path, batch: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("pretrain.train.vision.given.BATCH", batch)
    change = {"text": pa.array([None, "red", None, None], pa.string()), "labels": [[0], None, [2], [0, 1]]}
    config = given(tmp_path / "regions.parquet", folder, change)
    files = open_picture_rows(config)
    take_regions(config, files, tmp_path / "regions.arrow")
    found = by_name(config, open_regions(tmp_path / "regions.arrow", config, files))
    whole = (0.0, 0.0, 1.0, 1.0)
    assert found == {
        "p0.png": (Place(whole, None, (0,)), Place(whole, "red")),
        "p1.png": (Place(whole, None, (2,)),),
        "p2.png": (Place(whole, None, (0, 1)),),
    }


def test_lines_whose_reader_says_no_confidence_are_sure(folder: Path, tmp_path: Path) -> None:
    """Columns of nothing but nulls have no type of their own."""
    config = given(
        tmp_path / "regions.parquet", folder, {"text": list("abcd"), "labels": [None] * 4, "confidence": [None] * 4}
    )
    files = open_picture_rows(config)
    take_regions(config, files, tmp_path / "regions.arrow")
    found = by_name(config, open_regions(tmp_path / "regions.arrow", config, files))
    assert found["p2.png"] == (Place(tuple(BOX), "d", None, 1.0),)


def test_confidence_is_of_lines_alone(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny")
    unsure = [Place(tuple(BOX), text, (1,), 0.3).region(0, (84, 84), tokenizer) for text in (None, "red")]
    assert len(sample_regions(unsure[:1], 1, [(0,)], min_side=28)) == 1
    assert not sample_regions(unsure[1:], 1, [(0,)], min_side=28)


def test_objects_and_lines_are_learnt_and_a_step_may_lack_one(folder: Path, tmp_path: Path) -> None:
    """Of the seven pictures with regions 0 to 3 have objects and 4 to 6 lines."""
    config = of(folder)
    learner = learner_of(config, made(config, tmp_path / "regions.arrow"))
    before = learner.tower.blocks[0].attn.qkv.weight.detach().clone()
    steps = [updated(learner, [0, 1, 4, 5], 84, step) for step in range(1, 13)]
    for name in ("objects", "lines"):
        found = [metrics[name] for metrics in steps]
        assert np.mean(found[-4:]) < 0.8 * np.mean(found[:4])
    assert not torch.equal(learner.tower.blocks[0].attn.qkv.weight, before)
    no_line = updated(learner, [0, 2], 84, 13)
    assert no_line["lines"] == 0 < no_line["objects"]
    large = of(folder, regions={"min_side": 10_000})
    nothing = updated(learner_of(large, PictureFile(tmp_path / "regions.arrow")), [0], 84, 14)
    assert nothing["loss"] == nothing["grad_norm"] == 0


@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_of_regions_train_as_the_whole_batch_does(folder: Path, tmp_path: Path, size: int) -> None:
    """Every micro-batch of one picture lacks a kind."""
    made(of(folder), tmp_path / "regions.arrow")
    found = []
    for micro_batch in (None, size):
        config = of(folder, learner={"micro_batch": micro_batch, "grad_clip": 1e-3})
        learner = learner_of(config, PictureFile(tmp_path / "regions.arrow"))
        metrics = updated(learner, [0, 4, 1, 5], 84, 3)
        found.append((metrics, [one * 1e3 for one in gradients_of(learner)]))
    (whole, expected), (part, gradients) = found
    for name in ("loss", "grad_norm", "objects", "lines", "tflop"):
        assert part[name] == pytest.approx(whole[name], rel=1e-5)
    require_close(gradients, expected)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [None, 1])
def test_the_command_on_two_ranks_of_which_one_may_lack_a_kind_trains_as_on_one(
    folder: Path, tmp_path: Path, micro_batch: int | None
) -> None:
    """Four pictures a step, two a rank: of the seven with regions, a rank often has no object, or no line. Losses are
    the same up to float32 rounding, which twelve steps of AdamW carry on."""
    settings = {"cascade": [{"edge": 84, "epochs": 12}]}
    alone = run(of(folder, **settings, trainer={"run_dir": str(tmp_path / "alone")}))
    directory = run(
        of(
            folder,
            **settings,
            learner={"ranks": 2, "micro_batch": micro_batch},
            trainer={"run_dir": str(tmp_path / "run")},
        )
    )
    assert losses(directory) == pytest.approx(losses(alone), rel=1e-3)
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    found = [row["train/objects"] for row in rows]
    assert np.mean(found[-4:]) < np.mean(found[:4])
    before = load_file(folder / "tiny/model.safetensors")
    after = load_file(directory / "checkpoints/step_000012/hf/model.safetensors")
    assert any((before[name] != after[name]).any() for name in before if name.startswith("visual.blocks"))
