"""Gradients of a loss over all embeddings, a part's graph at a time: those of one graph of the whole batch."""

from __future__ import annotations

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


IS_LINE = torch.tensor([True, True, False, True])


def of_two_kinds(size: int, share: slice = slice(None)) -> list[Tensor]:
    """Gradients of the tower from parts of `size` samples, each an object or a line, of the `share` of the batch."""
    torch.manual_seed(1)
    x, labels, places = torch.randn(4, 5).double(), torch.arange(4).unsqueeze(1), torch.arange(4)[share]
    model, clusters, tokens = tower(), *(ClassCentres(CLASSES, WIDTH, seed=seed).double() for seed in (0, 1))

    def embed(part: Tensor) -> tuple[Tensor, ...]:
        kinds = [part[IS_LINE[part] == kind] for kind in (False, True)]
        return tuple(model(x[own]) if len(own) else x.new_zeros(0, WIDTH) for own in kinds)

    def loss(kinds: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        sets = [(kind, labels[places[IS_LINE[places] == bool(number)]]) for number, kind in enumerate(kinds)]
        return text_aware_loss(*sets, clusters, tokens, 0, LOSS)

    backward_in_parts(places.split(size), embed, loss)
    return [parameter.grad for parameter in model.parameters()]


def test_two_kinds_of_embeddings_of_which_a_part_may_lack_one():
    for whole, part in zip(of_two_kinds(4), of_two_kinds(2), strict=True):
        torch.testing.assert_close(part, whole, atol=1e-12, rtol=1e-10)


def two_kinds_on_rank(rank: int, ranks: int) -> list[Tensor]:
    """The first rank has two lines and no object, in one part."""
    return of_two_kinds(2, slice(2 * rank, 2 * rank + 2))


def test_a_rank_may_lack_a_kind_in_its_only_part(tmp_path: Path):
    found = on_ranks(2, two_kinds_on_rank, tmp_path)
    for one, other, whole in zip(*found, of_two_kinds(4), strict=True):
        torch.testing.assert_close(one + other, whole, atol=1e-12, rtol=1e-10)
