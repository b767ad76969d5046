"""Cluster discrimination against hand-worked values and a loop over explicit sets in float64; sharded against whole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.config.sections.contrastive import ClusterLossConfig
from pangu_rl.errors import DataError
from pretrain.contrastive.centres import ClassCentres
from pretrain.contrastive.cluster_loss import cluster_loss
from pretrain.contrastive.draw import NONE, draw_negatives
from tests.gloo_ranks import on_ranks

CLASSES, WIDTH = 30, 6
CASES = {
    "mlcd": ClusterLossConfig(scale=8.0, rate=0.4, draw="mlcd"),
    "rice": ClusterLossConfig(scale=64.0, margin=0.3, rate=0.3, draw="rice"),
    "partial_fc": ClusterLossConfig(scale=4.0, rate=0.5, draw="partial_fc"),
    "positives only": ClusterLossConfig(scale=4.0, rate=0.05, draw="partial_fc"),
    "all": ClusterLossConfig(scale=16.0, rate=1.0, draw="mlcd"),
}


def make_centres() -> ClassCentres:
    return ClassCentres(CLASSES, WIDTH, seed=3).double()


def make_batch(samples: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings float64 and two or three labels each, some of which samples share."""
    rng = np.random.default_rng(seed)
    labels = torch.full((samples, 3), NONE)
    for row in range(samples):
        chosen = rng.choice(CLASSES // 2, 2 + row % 2, replace=False)
        labels[row, : len(chosen)] = torch.from_numpy(chosen)
    return torch.from_numpy(rng.normal(size=(samples, WIDTH))), labels


def sets_of(labels: Tensor) -> list[set[int]]:
    return [set(row[row != NONE].tolist()) for row in labels]


def by_hand(embeddings: Tensor, labels: Tensor, weight: Tensor, config: ClusterLossConfig, step: int) -> Tensor:
    """The formula over explicit sets, one scalar after another."""
    drawn = draw_negatives(labels, CLASSES, config, step)
    losses = []
    for e, positives, cutoff in zip(embeddings, sets_of(labels), drawn.cutoff.tolist(), strict=True):
        negatives = [c for c in drawn.classes[:cutoff].tolist() if c not in positives]
        cosine = [torch.dot(e, w) / e.norm() / w.norm() for w in weight]
        pull = sum(torch.exp(-config.scale * torch.cos(torch.acos(cosine[c]) + config.margin)) for c in positives)
        push = sum((torch.exp(config.scale * cosine[c]) for c in negatives), torch.zeros((), dtype=e.dtype))
        losses.append(torch.log(1 + pull) + torch.log(1 + push))
    return torch.stack(losses).mean()


def test_a_loss_worked_by_hand():
    """Axes as centres, scale 2, all classes. e = (3, 4) / 5: s = 2 * (0.6, 0.8, -0.6) = (1.2, 1.6, -1.2).

    P = {0}: log(1 + e^-1.2) = log(1.301194) = 0.263282
    N = {1, 2}: log(1 + e^1.6 + e^-1.2) = log(1 + 4.953032 + 0.301194) = log(6.254226) = 1.833257; sum 2.096539
    """
    centres = ClassCentres(3, 2).double()
    with torch.no_grad():
        centres.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 5.0], [-2.0, 0.0]]))
    config = ClusterLossConfig(scale=2.0, rate=1.0)
    loss, metrics = cluster_loss(torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[0]]), centres, config, 0)
    assert loss.item() == pytest.approx(2.096539, abs=1e-6)
    assert metrics["negatives"] == 2
    assert metrics["positive_cosine"].item() == pytest.approx(0.6)


def test_the_margin_by_hand():
    """cos(acos(0.6) + 0.3) = 0.6 cos 0.3 - 0.8 sin 0.3 = 0.573202 - 0.236416 = 0.336786; log(1 + e^-0.673572)."""
    centres = ClassCentres(2, 2).double()
    with torch.no_grad():
        centres.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    config = ClusterLossConfig(scale=2.0, rate=1.0, margin=0.3)
    loss, _ = cluster_loss(torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[0]]), centres, config, 0)
    pull = math.log(1 + math.exp(-2 * (0.6 * math.cos(0.3) - 0.8 * math.sin(0.3))))
    assert loss.item() == pytest.approx(pull + math.log(1 + math.exp(-1.6)), abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_equal_a_loop_over_explicit_sets(name):
    config, centres = CASES[name], make_centres()
    embeddings, labels = make_batch()
    embeddings.requires_grad_()
    loss, _ = cluster_loss(embeddings, labels, centres, config, step=5)
    loss.backward()
    reference, weight = embeddings.detach().requires_grad_(), centres.weight.detach().requires_grad_()
    expected = by_hand(reference, labels, weight, config, step=5)
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(embeddings.grad, reference.grad, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(centres.weight.grad.to_dense(), weight.grad, atol=1e-10, rtol=1e-10)


def test_large_scores_do_not_overflow():
    embeddings, labels = make_batch()
    config = ClusterLossConfig(scale=5000.0, rate=1.0)
    loss, _ = cluster_loss(embeddings.float(), labels, ClassCentres(CLASSES, WIDTH, seed=3), config, 0)
    assert torch.isfinite(loss) and loss > 100


@pytest.mark.parametrize(("draw", "expected"), [("mlcd", (11, 10)), ("rice", (12, 12))])
def test_every_sample_has_exactly_its_share_of_negatives_and_none_of_its_own(draw, expected):
    """40 % of the 28 (or 27) that are not its own, or of all 30."""
    _, labels = make_batch()
    drawn = draw_negatives(labels, CLASSES, ClusterLossConfig(rate=0.4, draw=draw), step=1)
    for row, (positives, cutoff) in enumerate(zip(sets_of(labels), drawn.cutoff.tolist(), strict=True)):
        negatives = set(drawn.classes[:cutoff].tolist()) - positives
        assert len(negatives) == expected[row % 2]


def test_negatives_are_uniform_over_what_is_not_the_samples_own():
    """4000 draws of 3 of 8: each 1500 times, deviation 31; the own ones never."""
    labels, config = torch.tensor([[2, 7]]), ClusterLossConfig(rate=0.375, draw="mlcd")
    counts = np.zeros(10, dtype=int)
    for step in range(4000):
        drawn = draw_negatives(labels, 10, config, step)
        counts[[c for c in drawn.classes[: drawn.cutoff[0]].tolist() if c not in (2, 7)]] += 1
    assert counts[[2, 7]].sum() == 0
    others = np.delete(counts, [2, 7])
    assert others.sum() == 12000
    assert np.abs(others - 1500).max() < 150


def test_other_samples_positives_are_always_negatives_under_partial_fc_and_rarely_under_mlcd():
    labels = torch.tensor([[0], [1]])
    hits = {"partial_fc": 0, "mlcd": 0}
    for name in hits:
        config = ClusterLossConfig(rate=0.1, draw=name)
        for step in range(200):
            drawn = draw_negatives(labels, 100, config, step)
            hits[name] += 1 in drawn.classes[: drawn.cutoff[0]].tolist()
    assert hits["partial_fc"] == 200
    assert 5 < hits["mlcd"] < 45


def test_a_partial_fc_draw_counts_the_positives_and_falls_back_to_them():
    labels = torch.tensor([[0, 1], [2, 3]])
    drawn = draw_negatives(labels, 30, ClusterLossConfig(rate=0.2, draw="partial_fc"), 0)
    assert len(drawn.classes) == 6 and {0, 1, 2, 3} <= set(drawn.classes.tolist())
    drawn = draw_negatives(labels, 30, ClusterLossConfig(rate=0.1, draw="partial_fc"), 0)
    assert sorted(drawn.classes.tolist()) == [0, 1, 2, 3]


def test_every_step_draws_anew_and_a_step_always_the_same():
    _, labels = make_batch()
    first, again, next_step = (
        draw_negatives(labels, CLASSES, CASES["mlcd"], step).classes.tolist() for step in (0, 0, 1)
    )
    assert first == again != next_step


def test_a_repeated_label_counts_once():
    embeddings, _ = make_batch(1)
    once, twice = (
        cluster_loss(embeddings, torch.tensor([row]), make_centres(), CASES["all"], 0)[0] for row in ([4, 9], [9, 4, 9])
    )
    assert once == twice


@pytest.mark.parametrize(
    ("row", "message"),
    [([NONE, NONE], "sample 0 of the batch has no label"), ([30], "label 30: the classes are 0 to 29")],
)
def test_bad_labels_are_named(row, message):
    with pytest.raises(DataError, match=message):
        cluster_loss(torch.ones(1, WIDTH).double(), torch.tensor([row]), make_centres(), CASES["mlcd"], 0)


SPLITS = {1: [8], 2: [5, 3], 4: [3, 0, 4, 1]}
"""Samples of each rank."""


def sharded(rank: int, ranks: int, group: dist.ProcessGroup | None = None) -> dict[str, list[Tensor]]:
    """Loss, own embeddings' gradient, own centres' gradient and a metric of every case."""
    found = {}
    embeddings, labels = make_batch()
    for name, config in CASES.items():
        centres = ClassCentres(CLASSES, WIDTH, group=group, seed=3).double()
        own = embeddings.split(SPLITS[ranks])[rank].clone().requires_grad_()
        mine = labels.split(SPLITS[ranks])[rank]
        # A rank need not pad its labels as far as the others.
        mine = mine[:, : int((mine != NONE).sum(1).max()) if len(mine) else 1]
        loss, metrics = cluster_loss(own, mine, centres, config, step=2)
        loss.backward()
        found[name] = [loss.detach(), own.grad, centres.weight.grad.to_dense(), metrics["positive_cosine"]]
    return found


def on_four_and_on_two(rank: int, ranks: int) -> dict[int, dict[str, list[Tensor]]]:
    found = {ranks: sharded(rank, ranks)}
    pair = dist.new_group([1, 3])
    return found | {2: sharded(dist.get_rank(pair), 2, pair)} if rank in (1, 3) else found


def test_sharded_centres_equal_whole_ones(tmp_path: Path):
    """30 classes on 4 ranks are 8, 8, 8 and 6, and one rank has no sample; then two of the ranks are a group."""
    alone, found = sharded(0, 1), on_ranks(4, on_four_and_on_two, tmp_path)
    for ranks in (4, 2):
        parts_of_ranks = [part[ranks] for part in found if ranks in part]
        assert len(parts_of_ranks) == ranks
        for name, (loss, gradient, centres, cosine) in alone.items():
            for part in parts_of_ranks:
                torch.testing.assert_close(part[name][0], loss, atol=1e-12, rtol=0)
                torch.testing.assert_close(part[name][3], cosine, atol=1e-12, rtol=0)
            for number, whole in ((1, gradient), (2, centres)):
                parts = torch.cat([part[name][number] for part in parts_of_ranks])
                torch.testing.assert_close(parts, whole, atol=1e-12, rtol=1e-9, msg=name)
