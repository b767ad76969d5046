"""A step is made ahead once, counts as consumed when it is taken, and fails where it is taken."""

from __future__ import annotations

import threading

import pytest

from pangu_rl.loops.ahead import Ahead


class Counter:
    def __init__(self) -> None:
        self.made = 0
        self.go_on = threading.Event()

    def make(self) -> int:
        self.go_on.wait(10.0)
        self.made += 1
        return self.made

    def state(self) -> dict[str, int]:
        return {"made": self.made}


def test_what_is_made_ahead_is_consumed_when_it_is_taken() -> None:
    counter = Counter()
    ahead = Ahead(counter.make, counter.state)
    ahead.start()
    ahead.start()
    assert ahead.state_dict() == {"made": 0}
    counter.go_on.set()
    assert (ahead.take(), ahead.state_dict()) == (1, {"made": 1})
    ahead.start()
    ahead.close()
    assert ahead.state_dict() == {"made": 1}, "whether or not the second was made by then"


def test_without_a_start_it_is_made_when_it_is_taken() -> None:
    counter = Counter()
    counter.go_on.set()
    ahead = Ahead(counter.make, counter.state)
    assert [ahead.take() for _ in range(3)] == [1, 2, 3]
    ahead.close()


def test_what_went_wrong_is_raised_where_it_is_taken() -> None:
    def make() -> None:
        raise ValueError("row 7")

    ahead = Ahead(make, dict)
    ahead.start()
    with pytest.raises(ValueError, match="row 7"):
        ahead.take()
    ahead.close()
