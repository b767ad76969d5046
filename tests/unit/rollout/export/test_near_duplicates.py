"""Near-duplicates: who is dropped, against an exact Jaccard index, and how many pairs that takes."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pytest

from rollout.export import shared_bands
from rollout.export.near_duplicates import PERMUTATIONS, RECALL, SHINGLE, band_width, bands_of, signatures
from rollout.export.shared_bands import add_bands, candidates, create_bands
from tests.unit.rollout.export.exporting import exported, manifest_of
from tests.unit.rollout.stored import Answer, Asked, store_of

LONG = (
    "We add the two numbers, carry the one, and check the result by subtracting it again. So the answer is \\boxed{42}"
)


def jaccard(one: str, other: str) -> float:
    first, second = ({text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)} for text in (one, other))
    return len(first & second) / len(first | second)


def test_signatures_estimate_the_jaccard_index() -> None:
    """128 hashes: standard error at most 0.5 / sqrt(128) = 0.044; four of them are allowed."""
    rng = random.Random(0)
    for changed in (0, 3, 10, 40):
        other = list(LONG * 3)
        for place in rng.sample(range(len(other)), changed):
            other[place] = rng.choice("xyz")
        one, two = signatures([LONG * 3, "".join(other)])
        assert (one == two).mean() == pytest.approx(jaccard(LONG * 3, "".join(other)), abs=0.18)


def test_spaces_do_not_count() -> None:
    one, two = signatures(["a b  c d e\n", "a b c d e"])
    assert np.array_equal(one, two)


@pytest.mark.parametrize("likeness", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_a_pair_at_the_threshold(likeness: float) -> None:
    width = band_width(likeness)
    assert 1 - (1 - likeness**width) ** (PERMUTATIONS // width) >= RECALL
    assert width > 1 or likeness < 0.4


def test_responses_to_one_prompt_that_say_the_same_are_dropped_but_the_first(tmp_path: Path) -> None:
    asked = [
        Asked(
            uid="a",
            answers=[Answer(text=LONG), Answer(text=LONG.replace("check", "Check")), Answer(text="\\boxed{42}")],
        ),
        Asked(uid="b", answers=[Answer(text=LONG)]),
    ]
    store_of(tmp_path / "run", {1: asked, 2: asked[:1]})
    rows = exported(tmp_path / "run", tmp_path / "out", to="sft", near_duplicates=0.85)
    assert [row["id"] for row in rows] == ["run/1/0:a/0", "run/1/0:a/2", "run/1/0:b/0"]
    assert manifest_of(tmp_path / "out")["counts"]["near_duplicates 0.85"] == 3
    assert len(exported(tmp_path / "run", tmp_path / "all", to="sft", near_duplicates=1.0)) == 4


def test_a_prompt_is_no_duplicate_of_one_with_another_picture_or_answer(tmp_path: Path, media: Path) -> None:
    def asked(uid: str, text: str, gold: str = "red", picture: str = "red.png") -> Asked:
        messages = ({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]},)
        return Asked(uid=uid, messages=messages, gold=gold, images=(picture,), answers=[Answer(text="x")])

    question = "Which colour has the shape in the middle of the picture?"
    prompts = [
        asked("first", question),
        asked("same content", question + "?", picture="same.png"),
        asked("other picture", question, picture="blue.jpeg"),
        asked("other answer", question, gold="blue"),
    ]
    store_of(tmp_path / "run", {1: prompts}, media)
    rows = exported(tmp_path / "run", tmp_path / "out", to="prompts", near_duplicates=0.9)
    assert [row["id"] for row in rows] == ["first", "other picture", "other answer"]


def test_pairs_are_made_of_what_is_left(tmp_path: Path) -> None:
    answers = [Answer(text=LONG), Answer(text=LONG + ".", correct=False), Answer(text="no idea", correct=False)]
    store_of(tmp_path / "run", {1: [Asked(uid="a", answers=answers)]})
    [row] = exported(tmp_path / "run", tmp_path / "out", to="pairs", near_duplicates=0.9)
    assert row["rejected"] == "no idea"


def test_the_pairs_compared_grow_with_the_rows() -> None:
    """A thousand rows that are all alike meet only the first of them, rows that are unlike hardly any."""
    rng = random.Random(1)
    unlike = [" ".join(rng.choices("abcdefghijklmnop", k=120)) for _ in range(1000)]
    assert pairs_compared([LONG] * 1000) == 999
    assert pairs_compared(unlike) < 50


def test_each_row_meets_the_first_of_each_of_its_bands_whatever_is_read_at_once(monkeypatch) -> None:
    """Beside a table of first rows by band; batches of 7 end within runs of equal bands."""
    monkeypatch.setattr(shared_bands, "_TOGETHER", 7)
    bands = np.random.default_rng(0).integers(0, 40, (60, 3)).astype(np.uint64)
    catalogue: Any = SimpleNamespace(connection=duckdb.connect())
    create_bands(catalogue)
    for start in range(0, 60, 20):
        add_bands(catalogue, start, bands[start : start + 20])
    firsts: dict[int, int] = {}
    for number, own in enumerate(bands.tolist()):
        for band in own:
            firsts.setdefault(band, number)
    wanted = {(number, firsts[band]) for number, own in enumerate(bands.tolist()) for band in own}
    found = [pair for numbers, others in candidates(catalogue) for pair in zip(numbers.tolist(), others.tolist())]
    assert found == sorted(pair for pair in wanted if pair[0] > pair[1])


def pairs_compared(texts: list[str]) -> int:
    catalogue: Any = SimpleNamespace(connection=duckdb.connect())
    create_bands(catalogue)
    add_bands(catalogue, 0, bands_of(signatures(texts), np.zeros(len(texts), np.uint64), 0.9))
    return sum(len(numbers) for numbers, _ in candidates(catalogue))
