"""An order without a list: each row once, another one for another key, and nothing held of it."""

from __future__ import annotations

import numpy as np
import pytest

from pangu_rl.data.permutation import LISTED, FeistelOrder, order_of
from pangu_rl.data.stream import PromptStream


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 17, 1000, 4096, 4097, 2**17 + 1])
def test_every_row_comes_once(rows: int) -> None:
    order = FeistelOrder(rows, (7, 0))[:]
    assert order.dtype == np.int64
    assert (np.bincount(order, minlength=rows) == 1).all() and len(order) == rows


def test_a_slice_is_that_of_the_whole() -> None:
    order = FeistelOrder(10_007, (1, 2))
    whole = order[:]
    assert (order[5000:5020] == whole[5000:5020]).all()
    assert order[10_000:99_999].tolist() == whole[10_000:].tolist()


def test_it_mixes() -> None:
    """Of a random order of N = 100,000 rows the places of a tenth of the rows are spread evenly over ten tenths: 1,000
    each, with a standard deviation of 30 (hypergeometric, sqrt(10,000 * 0.1 * 0.9 * 0.9)); five of them are allowed.
    Neighbours follow each other once on average (Poisson), and keys share a place once."""
    rows = 100_000
    one, other = (FeistelOrder(rows, key)[:] for key in ((3, 0), (3, 1)))
    for tenth in range(10):
        first = one[tenth * rows // 10 : (tenth + 1) * rows // 10]
        assert (abs(np.bincount(first // (rows // 10), minlength=10) - 1000) < 150).all()
    assert (np.diff(one) == 1).sum() < 8
    assert (one == other).sum() < 8


def test_few_rows_have_numpys_order() -> None:
    assert order_of(100, (5, 2)).tolist() == np.random.default_rng((5, 2)).permutation(100).tolist()
    assert isinstance(order_of(LISTED, (0, 0)), np.ndarray)
    assert isinstance(order_of(LISTED + 1, (0, 0)), FeistelOrder)


def test_a_stream_of_two_billion_rows_goes_on_where_it_was() -> None:
    rows = range(2_270_000_000)
    one, other = (PromptStream(rows, shuffle=True, seed=1, identity="x") for _ in range(2))
    one.next(1000)
    other.load_state_dict(one.state_dict())
    assert one.next(5) == other.next(5)


def test_given_places_have_what_slices_have_there() -> None:
    order, places = FeistelOrder(1000, (3,)), np.array([999, 0, 17, 17])
    assert order[places].tolist() == [order[place : place + 1][0] for place in places.tolist()]
