"""Gradients of a loss over all embeddings, a part's graph at a time: those of one graph of the whole batch."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pangu_rl.config.sections.contrastive import ClusterLossConfig
from pretrain.contrastive.cached_gradients import backward_in_parts
from pretrain.contrastive.centres import ClassCentres
from pretrain.contrastive.cluster_loss import cluster_loss
from pretrain.contrastive.text_aware import text_aware_loss
from tests.gloo_ranks import on_ranks

SAMPLES, CLASSES, WIDTH = 8, 20, 6
LOSS = ClusterLossConfig(scale=16.0, margin=0.3, rate=0.5, draw="rice")


def by_hand(parts: list[Tensor]) -> tuple[float, float]:
    """e = w x of one number each, loss (sum e)^2 = w^2 (sum x)^2."""
    weight = torch.tensor(3.0, requires_grad=True)
    loss, found = backward_in_parts(
        parts, lambda x: (weight * x.unsqueeze(1),), lambda kinds: (kinds[0].sum() ** 2, len(kinds[0]))
    )
    assert found == 3
    return loss.item(), weight.grad.item()


def test_the_gradient_by_hand_whatever_the_parts():
    """x = 1, 2, 4: loss 9 * 49 = 441; gradient 2 * 3 * 49 = 294. Parts of their own would give 2 * 3 * 21 = 126."""
    x = torch.tensor([1.0, 2.0, 4.0])
    assert by_hand([x]) == by_hand(list(x.split(1))) == by_hand(list(x.split(2))) == (441.0, 294.0)


def tower() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, WIDTH)).double()


def gradients(size: int, share: slice = slice(None)) -> list[Tensor]:
    """Of the tower and of the centres, from parts of `size` samples of the `share` of the batch."""
    torch.manual_seed(1)
    x, labels = torch.randn(SAMPLES, 5).double()[share], torch.arange(SAMPLES).unsqueeze(1)[share]
    model, centres = tower(), ClassCentres(CLASSES, WIDTH, seed=2).double()
    backward_in_parts(
        x.split(size), lambda part: (model(part),), lambda kinds: cluster_loss(kinds[0], labels, centres, LOSS, 3)
    )
    return [centres.weight.grad.to_dense(), *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_micro_batches_have_the_negatives_and_gradients_of_the_whole_batch(size):
    """float64: what is left is the order of sums."""
    for part, whole in zip(gradients(size), gradients(SAMPLES), strict=True):
        torch.testing.assert_close(part, whole, atol=1e-12, rtol=1e-10)


def on_rank(rank: int, ranks: int, size: int) -> list[Tensor]:
    each = SAMPLES // ranks
    return gradients(size, slice(rank * each, (rank + 1) * each))


def test_micro_batches_on_two_ranks_equal_the_whole_batch_on_one(tmp_path: Path):
    """Centres by rank one after the other; the tower's gradients add up."""
    found, whole = on_ranks(2, on_rank, tmp_path, 3), gradients(SAMPLES)
    torch.testing.assert_close(torch.cat([own[0] for own in found]), whole[0], atol=1e-12, rtol=1e-10)
    for number in range(1, len(whole)):
        torch.testing.assert_close(found[0][number] + found[1][number], whole[number], atol=1e-12, rtol=1e-10)


def test_two_kinds_of_embeddings_of_which_a_part_may_lack_one():
    x, clusters, tokens = torch.randn(4, 5).double(), ClassCentres(CLASSES, WIDTH), ClassCentres(CLASSES, WIDTH, seed=1)
    model, labels = tower(), torch.arange(4).unsqueeze(1)
    is_line = torch.tensor([True, True, False, True])
    kept: list[list[Tensor]] = []

    def embed(places: Tensor) -> tuple[Tensor, Tensor]:
        found = [places[is_line[places] == kind] for kind in (False, True)]
        objects, lines = (model(x[own]) if len(own) else torch.zeros(0, WIDTH).double() for own in found)
        return objects, lines

    def loss(kinds: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        sets = [(kind, labels[is_line == bool(number)]) for number, kind in enumerate(kinds)]
        return text_aware_loss(*sets, copied[0], copied[1], 0, LOSS)

    for size in (4, 2):
        copied = [copy.deepcopy(table).double() for table in (clusters, tokens)]
        model.zero_grad()
        backward_in_parts(torch.arange(4).split(size), embed, loss)
        kept.append([parameter.grad.clone() for parameter in model.parameters()])
    for whole, part in zip(*kept, strict=True):
        torch.testing.assert_close(part, whole, atol=1e-12, rtol=1e-10)
