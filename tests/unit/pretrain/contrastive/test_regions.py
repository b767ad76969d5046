"""Regions: which are used, what they see, and the loss over objects and lines of text."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pretrain.contrastive.centres import ClassCentres
from pretrain.contrastive.heads import PictureHead, RegionHead
from pretrain.contrastive.regions import Region, padded_classes, region_mask, sample_regions
from pretrain.contrastive.text_aware import text_aware_loss
from pretrain.models.windows import lay_out_windows

LARGE = Region(picture=0, box=(0, 0, 200, 128), classes=(3,))


def test_small_unsure_and_unlabelled_regions_are_left_out():
    regions = [
        LARGE,
        replace(LARGE, box=(0, 0, 200, 127)),
        replace(LARGE, confidence=0.7),
        replace(LARGE, confidence=0.71, classes=(1, 2)),
        replace(LARGE, classes=()),
    ]
    assert sample_regions(regions, 10, seed=0, step=0) == [regions[0], regions[3]]


def test_so_many_of_each_picture_are_drawn_anew_at_every_step():
    regions = [replace(LARGE, picture=number % 2, classes=(number,)) for number in range(20)]
    draws = [sample_regions(regions, 3, seed=0, step=step) for step in range(30)]
    assert all(sorted(region.picture for region in drawn) == [0, 0, 0, 1, 1, 1] for drawn in draws)
    assert draws[0] == sample_regions(regions, 3, seed=0, step=0)
    assert {region.classes for drawn in draws for region in drawn} == {(number,) for number in range(20)}


def test_the_mask_by_hand():
    """A picture of 4 x 2 patches (two cells, one above the other) and one of 2 x 4 (side by side).

    Box (0, 14)-(28, 42) of the first has the centres of rows 1 and 2: patches 2, 3 of the upper cell, 0, 1 of the
    lower. Box (30, 0)-(31, 1) of the second has no centre: the patch under its middle is row 0, column 2, which is
    patch 0 of the second cell.
    """
    regions = [replace(LARGE, box=(0, 14, 28, 42)), replace(LARGE, picture=1, box=(30, 0, 31, 1))]
    mask = region_mask(regions, [(1, 4, 2), (1, 2, 4)])
    assert mask.shape == (2, 16)
    assert (mask[0] == 0).nonzero().flatten().tolist() == [2, 3, 4, 5]
    assert (mask[1] == 0).nonzero().flatten().tolist() == [8 + 4]
    assert mask[mask != 0].unique().tolist() == [-math.inf]


def test_the_mask_has_the_order_of_the_towers_patches():
    """The tower's own positions, put back into the order of its input, name the same patches."""
    grid, box = (1, 12, 10), (30.0, 50.0, 100.0, 120.0)
    layout = lay_out_windows([grid], 4, 2)
    positions = np.empty((30, 4, 2), dtype=int)
    positions[layout.order] = layout.positions.reshape(30, 4, 2)
    middle = positions.reshape(-1, 2) * 14 + 7
    inside = (middle[:, 1] >= 30) & (middle[:, 1] < 100) & (middle[:, 0] >= 50) & (middle[:, 0] < 120)
    mask = region_mask([replace(LARGE, box=box)], [grid])[0]
    assert np.array_equal(mask.numpy() == 0, inside)
    assert 0 < inside.sum() < len(inside)


def test_a_region_sees_its_patches_alone():
    torch.manual_seed(0)
    head, features = RegionHead(16, 2, 8), torch.randn(12, 16)
    mask = torch.full((2, 12), -math.inf)
    mask[0, 2:5] = 0
    mask[1, 7] = 0
    before = head(features, mask)
    features[5:] = torch.randn(7, 16)
    after = head(features, mask)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    # A query that sees one patch takes that patch's value whatever the scores.
    value = head.key_value(head.norm(features))[7, 16:]
    torch.testing.assert_close(after[1], head.projection(head.output(value)))


def test_a_picture_is_the_mean_of_its_patches():
    head = PictureHead(4, 4)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(4))
    features = torch.arange(20.0).view(5, 4)
    found = head(features, torch.tensor([0, 0, 1, 1, 1]), 2)
    torch.testing.assert_close(found, torch.stack([features[:2].mean(0), features[2:].mean(0)]))


def test_the_loss_is_that_of_objects_plus_that_of_lines_by_hand():
    """Scale 64, margin 0.3, a tenth of 10 classes = 1 negative each; a line's positives are the set of its tokens."""
    torch.manual_seed(0)
    clusters, tokens = ClassCentres(10, 4, seed=1).double(), ClassCentres(10, 4, seed=2).double()
    objects, lines = torch.randn(2, 4).double(), torch.randn(1, 4).double()
    labels = torch.tensor([[4], [7]])
    words = padded_classes([replace(LARGE, classes=(1, 2, 2))])
    loss, terms = text_aware_loss((objects, labels), (lines, words), clusters, tokens, step=0)

    def term(embeddings, sets, centres):
        total = 0.0
        for e, positives in zip(embeddings, sets, strict=True):
            order = np.random.default_rng((0, 0)).choice(10, 1 + max(map(len, sets)), replace=False).tolist()
            negative = next(c for c in order if c not in positives)
            cosine = (torch.nn.functional.normalize(centres.weight, dim=1) @ (e / e.norm())).tolist()
            pull = sum(math.exp(-64 * math.cos(math.acos(cosine[c]) + 0.3)) for c in positives)
            total += math.log1p(pull) + math.log1p(math.exp(64 * cosine[negative]))
        return total / len(sets)

    expected = term(objects, [{4}, {7}], clusters), term(lines, [{1, 2}], tokens)
    assert terms["objects"].item() == pytest.approx(expected[0], rel=1e-9)
    assert terms["lines"].item() == pytest.approx(expected[1], rel=1e-9)
    assert loss.item() == pytest.approx(sum(expected), rel=1e-9)


def test_a_batch_without_lines_trains_on_objects():
    clusters, tokens = ClassCentres(10, 4, seed=1), ClassCentres(10, 4, seed=2)
    embeddings = torch.randn(2, 4, requires_grad=True)
    none = (torch.zeros(0, 4), torch.zeros(0, 1, dtype=torch.int64))
    loss, terms = text_aware_loss((embeddings, torch.tensor([[1], [2]])), none, clusters, tokens, step=0)
    loss.backward()
    assert terms["lines"] == 0
    assert embeddings.grad.abs().sum() > 0
