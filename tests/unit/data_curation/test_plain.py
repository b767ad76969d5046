"""The first grade of the corpus: what is asked is what is drawn."""

from __future__ import annotations

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
from data_curation.corpus.pictures import plain
from data_curation.schema import Sample


@pytest.fixture
def shapes_alone(monkeypatch: pytest.MonkeyPatch) -> Materials:
    monkeypatch.setattr("data_curation.corpus.cutouts.scenes.cutouts", lambda materials, split: [])
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
