"""Class centres and their optimizer."""

from __future__ import annotations

import torch

from pretrain.contrastive.centres import BLOCK, ClassCentres, RowAdamW, _initial


def test_initial_centres_do_not_depend_on_where_the_shards_are_cut():
    whole = _initial(0, BLOCK + 10, 3, seed=1)
    parts = [_initial(first, last, 3, seed=1) for first, last in ((0, 7), (7, BLOCK + 2), (BLOCK + 2, BLOCK + 10))]
    assert torch.equal(torch.cat(parts), whole)
    assert 0.009 < whole.std() < 0.011
    assert not torch.equal(whole[:10], whole[BLOCK:])


def test_rows_that_were_not_drawn_keep_every_bit_and_the_others_step_as_adamw():
    centres = ClassCentres(6, 4, seed=0)
    before = centres.weight.detach().clone()
    ours = RowAdamW([centres.weight], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.2)
    rows = torch.nn.Parameter(before[[1, 4]].clone())
    theirs = torch.optim.AdamW([rows], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.2)
    for step in range(3):
        target = torch.randn(2, 4, generator=torch.Generator().manual_seed(step))
        for optimizer, chosen in ((ours, centres.rows(torch.tensor([1, 4]))), (theirs, rows)):
            optimizer.zero_grad()
            (chosen * target).sum().backward()
            optimizer.step()
    torch.testing.assert_close(centres.weight[[1, 4]], rows, atol=1e-7, rtol=1e-6)
    untouched = [0, 2, 3, 5]
    assert torch.equal(centres.weight[untouched], before[untouched])


def test_a_row_drawn_late_takes_a_first_step_of_full_length():
    """Adam's first step is lr * sign(gradient)."""
    centres = ClassCentres(2, 1, seed=0)
    optimizer = RowAdamW([centres.weight], lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        centres.rows(torch.tensor([0])).sum().backward()
        optimizer.step()
    before = centres.weight[1].item()
    optimizer.zero_grad()
    centres.rows(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert abs(before - centres.weight[1].item() - 1e-2) < 1e-6
