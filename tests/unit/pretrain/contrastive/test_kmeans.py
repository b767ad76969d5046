"""k-means finds clusters that are there, and labels are the nearest centres."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from pangu_rl.errors import ConfigError
from pretrain.contrastive import kmeans
from pretrain.contrastive.kmeans import fit_centres, nearest_classes


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
    centres = fit_centres(points, 8, batch=64, passes=12, seed=seed)
    labels = nearest_classes(points, centres, 1)[:, 0]
    table = torch.zeros(8, 8)
    table.index_put_((truth, labels), torch.ones(len(truth)), accumulate=True)
    assert (table.max(1).values / 100).min() > 0.98
    assert len(table.argmax(1).unique()) == 8


def test_the_same_seed_gives_the_same_centres_and_they_are_unit():
    points, _ = clusters()
    first, again = fit_centres(points, 20, seed=3), fit_centres(points, 20, seed=3)
    assert torch.equal(first, again)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(20))
    assert not torch.equal(first, fit_centres(points, 20, seed=4))


def test_labels_are_the_nearest_centres_in_order_in_whatever_parts(monkeypatch):
    points, _ = clusters(4, 10)
    centres = torch.randn(9, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10).unsqueeze(1)
    cosines = normalize(points, dim=1) @ normalize(centres, dim=1).T
    expected = cosines.argsort(dim=1, descending=True)[:, :3]
    assert torch.equal(nearest_classes(points, centres, 3), expected)
    monkeypatch.setattr(kmeans, "CELLS", 20)
    assert torch.equal(nearest_classes(points, centres, 3), expected)


def test_more_clusters_than_points_and_more_labels_than_clusters_are_refused():
    with pytest.raises(ConfigError, match="5 clusters of 4 embeddings"):
        fit_centres(torch.randn(4, 2), 5)
    with pytest.raises(ConfigError, match="3 labels of 2 clusters"):
        nearest_classes(torch.randn(4, 2), torch.randn(2, 2), 3)
