"""A segment tree as passes of queries over keys, worked by hand."""

from __future__ import annotations

import numpy as np
import torch

from pangu_rl.accelerators.attention.segments import Segments


def segments(lengths: list[int], parents: list[int]) -> Segments:
    return Segments(np.array([0, *np.cumsum(lengths)]), np.array(parents), torch.device("cpu"))


def test_a_group_is_its_segments_and_one_pass_over_the_prompt() -> None:
    own, prompt = segments([3, 2, 1], [-1, 0, 0]).passes(window=0)
    assert (own.queries, own.keys, own.query_ends, own.causal) == (None, None, (3, 5, 6), True)
    assert prompt.queries.tolist() == [3, 4, 5]
    assert prompt.keys.tolist() == [0, 1, 2]
    assert (prompt.query_ends, prompt.key_ends, prompt.causal) == ((3,), (3,), False)
    assert [bounds.tolist() for bounds in prompt.bounds] == [[0, 3], [0, 3]]
    assert prompt.longest == (3, 3)


def test_levels_of_two_trees_share_passes_and_a_grandchild_is_in_both() -> None:
    tree = segments([2, 1, 1, 3, 2], [-1, 0, 1, -1, 3])
    _, roots, children = tree.passes(window=0)
    assert roots.queries.tolist() == [2, 3, 7, 8]
    assert roots.keys.tolist() == [0, 1, 4, 5, 6]
    assert (roots.query_ends, roots.key_ends) == ((2, 4), (2, 5))
    assert (children.queries.tolist(), children.keys.tolist()) == ([3], [2])
    assert tree.longest == 5


def test_plain_sequences_are_one_pass_and_empty_segments_are_in_none() -> None:
    (own,) = segments([2, 0, 3], [-1, -1, -1]).passes(window=0)
    assert own.query_ends == (2, 5)


def test_a_window_takes_as_much_of_the_ancestors_as_it_reaches() -> None:
    # A window of 3: the first token of a segment sees two tokens before it.
    (only,) = segments([4, 2, 1, 5], [-1, 0, 1, 0]).passes(window=3)
    assert only.queries is None
    assert only.query_ends == (4, 6, 7, 12)
    assert only.keys.tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 2, 3, 7, 8, 9, 10, 11]
    assert only.key_ends == (4, 8, 11, 18)
    assert only.causal


def test_a_window_that_hides_nothing_is_none() -> None:
    tree = segments([4, 2], [-1, 0])
    assert tree.passes(window=6) == tree.passes(window=0)
    assert len(tree.passes(window=5)) == 1


def test_what_is_made_of_a_long_group_is_its_tokens_and_its_segments() -> None:
    """Nothing by pairs of tokens: an index of each query and key of the prompt's pass, and ends by segment."""
    own, prompt = segments([2048, *[24576] * 8], [-1, *[0] * 8]).passes(window=0)
    assert (own.queries, own.keys, len(own.query_ends)) == (None, None, 9)
    assert (len(prompt.queries), len(prompt.keys), len(prompt.query_ends)) == (8 * 24576, 2048, 1)
