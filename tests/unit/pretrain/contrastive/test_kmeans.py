"""k-means finds clusters that are there, and labels are the nearest centres."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pangu_rl.errors import ConfigError
from pretrain.contrastive import kmeans
from pretrain.contrastive.kmeans import CentreShard, HereShards, fit, labels_of


def fitted(points: torch.Tensor, classes: int, **settings: int) -> HereShards:
    shards = HereShards(classes, points.shape[1])
    fit(shards, points.numpy(), classes, **settings)
    return shards


def nearest(shards: HereShards, points: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat(list(labels_of(shards, points.numpy(), count)))


def clusters(count: int = 8, each: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around random directions of 16 dimensions, of any length, and the direction of each."""
    generator = torch.Generator().manual_seed(1)
    directions = normalize(torch.randn(count, 16, generator=generator), dim=1)
    truth = torch.arange(count).repeat(each)
    noise = 0.05 * torch.randn(count * each, 16, generator=generator)
    lengths = 0.5 + torch.rand(count * each, 1, generator=generator)
    return (directions[truth] + noise) * lengths, truth


@pytest.mark.parametrize("seed", range(5))
def test_well_separated_clusters_are_found_from_any_start(seed):
    points, truth = clusters()
    labels = nearest(fitted(points, 8, batch=64, passes=12, seed=seed), points, 1)[:, 0]
    table = torch.zeros(8, 8)
    table.index_put_((truth, labels), torch.ones(len(truth)), accumulate=True)
    assert (table.max(1).values / 100).min() > 0.98
    assert len(table.argmax(1).unique()) == 8


def test_the_same_seed_gives_the_same_centres_and_they_are_unit():
    points, _ = clusters()
    first, again, other = (fitted(points, 20, seed=seed).each("centres")[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(20))
    assert not torch.equal(first, other)


def test_labels_are_the_nearest_centres_in_order_in_whatever_parts(monkeypatch):
    points, _ = clusters(4, 10)
    centres = torch.randn(9, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10).unsqueeze(1)
    cosines = normalize(points, dim=1) @ normalize(centres, dim=1).T
    expected = cosines.argsort(dim=1, descending=True)[:, :3]
    shards = HereShards(9, 16)
    shards.each("hold", 0, normalize(centres, dim=1), 9)
    assert torch.equal(nearest(shards, points, 3), expected)
    monkeypatch.setattr(kmeans, "BLOCK", 2)
    monkeypatch.setattr(kmeans, "BATCH", 7)
    assert torch.equal(nearest(shards, points, 3), expected)


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shards_of_centres_give_the_bits_of_one(shards, monkeypatch):
    """21 centres in blocks of 4 are six blocks: over 7 shards one has none. So few points leave centres unused."""
    monkeypatch.setattr(kmeans, "BLOCK", 4)
    points = clusters(8, 12)[0].numpy()
    found = []
    for number in (1, shards):
        whole = HereShards(21, 16, number)
        fit(whole, points, 21, batch=10, passes=4, seed=2)
        labels = torch.cat(list(labels_of(whole, points, 5)))
        found.append((torch.cat(whole.each("centres")), labels))
    assert all(torch.equal(one, many) for one, many in zip(*found, strict=True))


def test_of_blocks_that_are_equally_near_the_first_is_taken_whatever_the_shards(monkeypatch):
    monkeypatch.setattr(kmeans, "BLOCK", 1)
    for shards in (1, 2, 4):
        same = HereShards(4, 2, shards)
        same.each("hold", 0, torch.tensor([[0.0, 1.0]] * 4), 4)
        [labels] = labels_of(same, np.array([[0.0, 2.0]], np.float32), 3)
        assert labels.tolist() == [[0, 1, 2]]


def test_a_centre_moves_by_its_share_of_all_that_it_has_seen():
    """From (1, 0): the first point (0, 1) is all that it has seen; of a second, (1, 0), half counts."""
    shard = CentreShard(0, 1, 2)
    shard.hold(0, torch.tensor([[1.0, 0.0]]), 1)
    shard.move(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    torch.testing.assert_close(shard.centres(), torch.tensor([[0.0, 1.0]]))
    shard.move(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    torch.testing.assert_close(shard.centres(), torch.full((1, 2), 0.5**0.5))
    assert len(shard.unused()) == 0 and shard.unused().tolist() == [0]


def test_more_clusters_than_points_are_refused():
    with pytest.raises(ConfigError, match="5 clusters of 4 embeddings"):
        fitted(torch.randn(4, 2), 5)
