"""Lengths: the same groups for whoever asks, a store read back, and a tail that was cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from pangu_rl.errors import DataError
from pangu_rl.records import FinishReason
from pangu_rl.simulation.lengths import (
    DrawnGroup,
    LognormalLengths,
    MeasuredLengths,
    Prompts,
    fitted,
    read_lengths,
    read_store,
)
from tests.unit.rollout.stored import SAMPLING, Answer, Asked, made_group, store_of


def run_with(folder, *groups, finish=FinishReason.STOP):
    """A run of one step, whose groups have answers of these lengths."""
    asked = [
        Asked(uid=f"p{number}", answers=[Answer(text="x", tokens=length, finish=finish) for length in lengths])
        for number, lengths in enumerate(groups)
    ]
    store_of(folder, {1: asked})
    return folder


def test_everybody_who_asks_gets_the_same_groups():
    prompts = Prompts(lengths=LognormalLengths(median=50, sigma=1, prompt=7, cap=90), completions=3, flat=0.25, seed=4)
    first, again = (list(islice(prompts.stream(), 600)) for _ in range(2))
    assert first == again
    answers = np.array([group.answers for group, _ in first])
    assert answers.shape == (600, 3) and answers.max() == 90 and answers.min() >= 1
    assert np.median(answers) == pytest.approx(50, rel=0.1)
    # 600 draws: a standard deviation of 0.018.
    assert np.mean([varied for _, varied in first]) == pytest.approx(0.75, abs=0.06)


def test_a_store_is_read_back_group_by_group(tmp_path):
    store = store_of(tmp_path, {1: [Asked(uid="a", answers=[Answer(text="x", tokens=5), Answer(text="x", tokens=9)])]})
    varied = made_group(Asked(uid="b", answers=[Answer(text="x", tokens=2), Answer(text="x", tokens=3)]), 2)
    store.append(2, [replace(varied, advantages=[1.0, -1.0])], SAMPLING)
    stored = read_store(tmp_path)
    assert stored.steps == {1: [(DrawnGroup(2, (5, 9)), False)], 2: [(DrawnGroup(2, (2, 3)), True)]}
    assert stored.limit == 64 and not stored.cut
    lengths = read_lengths(tmp_path, 8)
    assert lengths == MeasuredLengths((DrawnGroup(2, (5, 9)), DrawnGroup(2, (2, 3))), 8)
    drawn = lengths.groups(np.random.default_rng(0), 20, 2)
    assert {group.answers for group in drawn} == {(5, 8), (2, 3)}  # 9 is over the cap
    assert all(set(group.answers) <= {5, 8, 2, 3} for group in lengths.groups(np.random.default_rng(0), 20, 5))


def test_answers_that_were_cut_are_continued_by_a_lognormal(tmp_path):
    rng = np.random.default_rng(0)
    whole = np.rint(np.exp(np.log(50) + 0.6 * rng.standard_normal(4000))).astype(int)
    groups = tuple(DrawnGroup(10, tuple(row)) for row in np.minimum(whole, 64).reshape(-1, 4).tolist())
    found = fitted(tmp_path, groups, 64, 500)
    # 66 % are whole; medians of 4,000 draws have a standard error of 1.2 %, sigma of about 2 %.
    assert found.median == pytest.approx(50, rel=0.05) and found.sigma == pytest.approx(0.6, rel=0.08)
    assert found.cap == 500 and found.prompt == 10


def test_too_many_cut_answers_are_refused(tmp_path):
    run_with(tmp_path, (64, 64, 64, 64), (64, 64, 64, 3), finish=FinishReason.LENGTH)
    with pytest.raises(DataError, match=r"88% of its answers were cut at 64 tokens.*up to 100"):
        read_lengths(tmp_path, 100)
    assert isinstance(read_lengths(tmp_path, 64), MeasuredLengths)  # to the same cap they say enough


def test_a_file_has_its_cap_and_the_configuration_another(tmp_path):
    file = tmp_path / "lengths.yaml"
    file.write_text("median: 100\nsigma: 0.5\nprompt: 20\ncap: 400\n", encoding="utf-8")
    assert read_lengths(file, 1000).cap == 400 and read_lengths(file, 300).cap == 300
