"""Which ranks write the weights where engines read them."""

from __future__ import annotations

from pangu_rl.loops.actors.learners import handing_out


def test_rank_0_alone_or_the_first_of_each_node() -> None:
    hosts = ["a", "a", "b", "b", "a"]
    assert handing_out(hosts, every_node=False) == [True, False, False, False, False]
    assert handing_out(hosts, every_node=True) == [True, False, True, False, False]
