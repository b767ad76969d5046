"""The first grade of the corpus, tilted things, and points with their count: what is asked is what is drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from random import Random

import numpy as np
import pytest

from data_curation.corpus.cutouts.drawn_shapes import COLOURS
from data_curation.corpus.cutouts.scenes import Studio
from data_curation.corpus.labels import scaled
from data_curation.corpus.materials import Materials
from data_curation.corpus.pictures import plain, things, tilted
from data_curation.schema import Sample


@pytest.fixture
def shapes_alone(monkeypatch: pytest.MonkeyPatch) -> Materials:
    monkeypatch.setattr("data_curation.corpus.cutouts.scenes.cutouts", lambda materials, split: [])
    return Materials(folders={}, missing={})


@pytest.fixture
def shapes_to_place(monkeypatch: pytest.MonkeyPatch) -> Materials:
    monkeypatch.setattr("data_curation.corpus.cutouts.scenes.cutouts", lambda materials, split: plain._shapes(split))
    return Materials(folders={}, missing={})


def some(samples: Iterator[Sample]) -> list[tuple[Sample, np.ndarray]]:
    """Forty with their pixels, float [H, W, 3]."""
    found = list(islice(samples, 40))
    return [(sample, np.asarray(sample.pictures[0].image, dtype=float)) for sample in found]


def drawn(pixels: np.ndarray) -> np.ndarray:
    """bool [H, W]: what is not background; the commonest colour of the edge is that."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colours, counts = np.unique(edge, axis=0, return_counts=True)
    return np.abs(pixels - colours[counts.argmax()]).sum(2) > 120


def test_a_box_holds_all_of_the_shape_and_no_more(shapes_alone: Materials) -> None:
    for sample, pixels in some(plain.boxes(shapes_alone, "sft", Random(0))):
        rows, columns = np.nonzero(drawn(pixels))
        seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        height, width = pixels.shape[:2]
        said = [int(value) for value in re.findall(r"\d{3}", sample.answer.text)]
        # Two pixels, in thousandths of the shorter side: a corner of a star is pale.
        assert np.abs(np.array(said) - scaled(seen, (width, height))).max() <= 2000 / min(height, width)


def test_a_colour_is_that_of_the_shape(shapes_alone: Materials) -> None:
    for sample, pixels in some(plain.colours(shapes_alone, "train", Random(0))):
        inside = np.median(pixels[drawn(pixels)], axis=0)
        nearest = min(COLOURS, key=lambda names: np.abs(np.array(COLOURS[names]) - inside).sum())
        assert sample.answer.text in nearest


def test_the_ink_grows_with_the_count(shapes_alone: Materials) -> None:
    """Every count occurs, and shapes to be counted are about as large."""
    shares: dict[int, list[float]] = {}
    for sample, pixels in some(plain.counts(shapes_alone, "heldout", Random(0))):
        shares.setdefault(int(sample.answer.text), []).append(drawn(pixels).mean())
    assert sorted(shares) == [1, 2, 3, 4, 5]
    means = [np.mean(shares[count]) for count in sorted(shares)]
    assert means == sorted(means)


def test_a_quadrilateral_is_the_least_one_around_a_tilted_shape(shapes_to_place: Materials) -> None:
    """Alone in its picture: what is drawn lies in it, up to a pixel and a half, and touches each of its sides."""
    found = 0
    for sample, pixels in some(tilted.quads(shapes_to_place, "sft", Random(0))):
        if len(sample.items) > 1:
            continue
        found += 1
        height, width = pixels.shape[:2]
        corners = np.array(re.findall(r"\((\d+),(\d+)\)", sample.answer.text), dtype=float) * (width, height) / 1000
        assert sample.answer.type == "quads" and len(corners) == 4 and corners.sum(1).argmin() == 0
        rows, columns = np.nonzero(drawn(pixels))
        at = np.stack([columns, rows], axis=1) + 0.5
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            along = (end - start) / np.linalg.norm(end - start)
            inwards = (at - start) @ np.array([-along[1], along[0]])
            assert -1.5 < inwards.min() < 3.0, sample.answer.text
    assert found > 5


def test_each_of_a_kind_is_pointed_at_and_counted(shapes_to_place: Materials) -> None:
    """The points lie in the gold's boxes, one in each, and what is said behind them is how many there are."""
    counts = set()
    for sample, _ in some(things.point_counts(shapes_to_place, "sft", Random(0))):
        said = sample.turns[0].response
        points = [(int(x), int(y)) for x, y in re.findall(r"point_start\|>\((\d+),(\d+)\)", said)]
        boxes = [] if sample.answer.text == "null" else json.loads(sample.answer.text)
        assert re.search(r"(\d+)\}$", said)[1] == str(len(boxes)) and len(points) == len(boxes)
        assert all(x1 < x < x2 and y1 < y < y2 for (x, y), (x1, y1, x2, y2) in zip(points, boxes, strict=True))
        counts.add(len(boxes))
    assert {0, 1, 2, 3} <= counts


def test_splits_share_no_shape(shapes_alone: Materials) -> None:
    found = [
        {item for sample, _ in some(plain.counts(shapes_alone, split, Random(0))) for item in sample.items}
        for split in ("sft", "heldout")
    ]
    assert found[0] and found[1] and found[0].isdisjoint(found[1])


def test_studio_places_within_the_share_that_it_is_told(shapes_alone: Materials) -> None:
    sample = next(plain.boxes(shapes_alone, "sft", Random(3)))
    studio = Studio(shapes_alone, "sft", Random(0))
    canvas = sample.pictures[0].image.copy()
    thing = plain._shapes("sft")[0]
    placed = studio.place(canvas, thing, (0, 0, *canvas.size), (0.5, 0.5))
    sides = placed.box[2] - placed.box[0], placed.box[3] - placed.box[1]
    assert max(side / length for side, length in zip(sides, canvas.size, strict=True)) == pytest.approx(0.5, abs=0.02)
