"""Regions: which are used, what they see, and the loss over objects and lines of text."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pretrain.contrastive.centres import ClassCentres
from pretrain.contrastive.heads import PictureHead, RegionHead
from pretrain.contrastive.regions import Region, RegionPatches, padded_classes, region_patches, sample_regions
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
    assert sample_regions(regions, 10, [(0,)]) == [regions[0], regions[3]]


def test_so_many_of_each_picture_are_drawn_anew_at_every_step():
    regions = [replace(LARGE, picture=number % 2, classes=(number,)) for number in range(20)]
    draws = [sample_regions(regions, 3, [(step, 7), (step, 8)]) for step in range(30)]
    assert all(sorted(region.picture for region in drawn) == [0, 0, 0, 1, 1, 1] for drawn in draws)
    assert draws[0] == sample_regions(regions, 3, [(0, 7), (0, 8)])
    assert {region.classes for drawn in draws for region in drawn} == {(number,) for number in range(20)}
    alone = [replace(region, picture=0) for region in regions if region.picture == 1]
    assert [region.classes for region in sample_regions(alone, 3, [(5, 8)])] == [
        region.classes for region in draws[5] if region.picture == 1
    ]


def test_the_patches_by_hand():
    """A picture of 4 x 2 patches (two cells, one above the other) and one of 2 x 4 (side by side).

    Box (0, 14)-(28, 42) of the first has the centres of rows 1 and 2: patches 2, 3 of the upper cell, 0, 1 of the
    lower. Box (30, 0)-(31, 1) of the second has no centre: the patch under its middle is row 0, column 2, which is
    patch 0 of the second cell.
    """
    regions = [replace(LARGE, box=(0, 14, 28, 42)), replace(LARGE, picture=1, box=(30, 0, 31, 1))]
    found = region_patches(regions, [(1, 4, 2), (1, 2, 4)])
    assert found.patches.tolist() == [list(range(8)), list(range(8, 16))]
    assert found.seen[0, 0].nonzero().flatten().tolist() == [2, 3, 4, 5]
    assert found.seen[1, 0].nonzero().flatten().tolist() == [4]
    assert found.slots.tolist() == [0, 1]


def test_only_pictures_with_regions_are_laid_out_in_the_order_of_the_regions():
    """Pictures of 8, 4 and 16 patches; two regions of the last, one of the first: 2 x 2 x 16, slots 2, 0, 3."""
    regions = [replace(LARGE, picture=2), replace(LARGE, picture=0), replace(LARGE, picture=2, box=(0, 0, 1, 1))]
    found = region_patches(regions, [(1, 4, 2), (1, 2, 2), (1, 4, 4)])
    assert found.slots.tolist() == [2, 0, 3]
    assert found.patches[:, [0, 7, 15]].tolist() == [[0, 7, 7], [12, 19, 27]]
    assert found.seen.shape == (2, 2, 16) and not found.seen[0, 0, 8:].any()


def test_the_patches_have_the_order_of_the_towers():
    """The tower's own positions, put back into the order of its input, name the same patches."""
    grid, box = (1, 12, 10), (30.0, 50.0, 100.0, 120.0)
    layout = lay_out_windows([grid], 4, 2)
    positions = np.empty((30, 4, 2), dtype=int)
    positions[layout.order] = layout.positions.reshape(30, 4, 2)
    middle = positions.reshape(-1, 2) * 14 + 7
    inside = (middle[:, 1] >= 30) & (middle[:, 1] < 100) & (middle[:, 0] >= 50) & (middle[:, 0] < 120)
    seen = region_patches([replace(LARGE, box=box)], [grid]).seen[0, 0]
    assert np.array_equal(seen.numpy(), inside)
    assert 0 < inside.sum() < len(inside)


def dense(head: RegionHead, features: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Every region attends, in one softmax over the patches of all pictures, to those that `inside` [S, P] names."""
    size = features.shape[1] // head.heads
    key, value = head.key_value(head.norm(features)).view(-1, 2, head.heads, size).unbind(1)
    scores = torch.einsum("hc,phc->hp", head.query.view(head.heads, size), key) / math.sqrt(size)
    share = scores.unsqueeze(1).masked_fill(~inside, -math.inf).softmax(-1)
    return head.projection(head.output(torch.einsum("hsp,phc->shc", share, value).flatten(1)))


GRIDS = [(1, 4, 6), (1, 2, 2), (1, 8, 4), (1, 2, 8)]


def some_regions() -> list[Region]:
    """Three of the first picture, none of the second, one and two of the others; not in the order of the pictures."""
    boxes = [(2, 5, 5, 40, 100), (0, 0, 0, 50, 30), (3, 20, 0, 90, 28), (0, 14, 14, 84, 56), (0, 3, 3, 4, 4)]
    boxes.append((3, 0, 0, 112, 28))
    return [replace(LARGE, picture=picture, box=tuple(map(float, box))) for picture, *box in boxes]


def test_regions_see_what_a_dense_softmax_over_all_pictures_shows_them():
    """Embeddings and every gradient, float32: both sum at most 32 patches, in other orders."""
    torch.manual_seed(0)
    regions, starts = some_regions(), np.cumsum([0, *(rows * columns for _, rows, columns in GRIDS)])
    inside = torch.zeros(len(regions), int(starts[-1]), dtype=torch.bool)
    for number, region in enumerate(regions):
        _, rows, columns = GRIDS[region.picture]
        alone = region_patches([replace(region, picture=0)], [(1, rows, columns)]).seen[0, 0]
        inside[number, starts[region.picture] : starts[region.picture + 1]] = alone
    head, features = RegionHead(16, 2, 8), torch.randn(int(starts[-1]), 16)
    weight = torch.randn(len(regions), 8)
    gradients = []
    for embedded in (lambda x: head(x, region_patches(regions, GRIDS)), lambda x: dense(head, x, inside)):
        shown = features.clone().requires_grad_()
        found = embedded(shown)
        gradients.append([found, *torch.autograd.grad((found * weight).sum(), [shown, *head.parameters()])])
    for one, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(one, reference, atol=2e-6, rtol=2e-5)


def test_a_region_sees_its_patches_alone():
    torch.manual_seed(0)
    head, features = RegionHead(16, 2, 8), torch.randn(12, 16)
    seen = torch.zeros(1, 2, 12, dtype=torch.bool)
    seen[0, 0, 2:5] = seen[0, 1, 7] = True
    regions = RegionPatches(torch.arange(12).unsqueeze(0), seen, torch.arange(2))
    before = head(features, regions)
    features[5:] = torch.randn(7, 16)
    after = head(features, regions)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    # A query that sees one patch takes that patch's value whatever the scores.
    value = head.key_value(head.norm(features))[7, 16:]
    torch.testing.assert_close(after[1], head.projection(head.output(value)))


def bytes_saved(pictures: int) -> int:
    """For the backward pass of the head, over pictures of 8 x 8 patches with three regions each."""
    torch.manual_seed(0)
    head, grids = RegionHead(16, 2, 8), [(1, 8, 8)] * pictures
    regions = [replace(LARGE, picture=picture) for picture in range(pictures) for _ in range(3)]
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    features = torch.randn(64 * pictures, 16, requires_grad=True)
    laid_out = region_patches(regions, grids)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = head(features, laid_out)
    assert len(found) == 3 * pictures
    return sum(saved.values())


def test_what_is_kept_grows_with_the_pictures_and_not_with_their_square():
    """Four times the pictures keep four times the bytes, but for the weights, which are the same: below 4, above 3."""
    assert 3 < bytes_saved(64) / bytes_saved(16) <= 4


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
