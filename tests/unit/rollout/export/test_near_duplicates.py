"""Near-duplicates: who is dropped, against an exact Jaccard index, and how many pairs that takes."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from rollout.export import buckets, shared_bands
from rollout.export.near_duplicates import PERMUTATIONS, RECALL, SHINGLE, Signed, band_width, bands_of, signatures
from rollout.export.shared_bands import SharedBands
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


def test_the_pairs_compared_grow_with_the_rows(tmp_path: Path) -> None:
    """A thousand rows that are all alike meet only the first of them, rows that are unlike hardly any."""
    rng = random.Random(1)
    unlike = [" ".join(rng.choices("abcdefghijklmnop", k=120)) for _ in range(1000)]
    assert pairs_compared(tmp_path, [LONG] * 1000) == 999
    assert pairs_compared(tmp_path, unlike) < 50


def pairs_compared(scratch: Path, texts: list[str]) -> int:
    values = bands_of(signatures(texts), np.zeros(len(texts), np.uint64), 0.9)
    bands = SharedBands(scratch, *values.shape)
    bands.add(0, values)
    return sum(len(numbers) for numbers, _ in bands.candidates())


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 7 items, written 5 at a time, so that 180 bands fill 26 and one band fills several."""
    for module in (buckets, shared_bands):
        monkeypatch.setattr(module, "SIZE", 7)
    monkeypatch.setattr(buckets, "_HELD", 5)
    monkeypatch.setattr(shared_bands, "_TOGETHER", 3)


def firsts_of(bands: np.ndarray) -> dict[int, int]:
    """Band -> the first row that has it."""
    firsts: dict[int, int] = {}
    for number, own in enumerate(bands.tolist()):
        for band in own:
            firsts.setdefault(band, number)
    return firsts


@pytest.mark.usefixtures("small_buckets")
def test_each_row_meets_the_first_of_each_of_its_bands_wherever_these_lie(tmp_path: Path) -> None:
    """Beside a table of first rows by band."""
    values = np.random.default_rng(0).integers(0, 40, (60, 3)).astype(np.uint64) << np.uint64(58)
    bands = SharedBands(tmp_path, 60, 3)
    for start in range(0, 60, 20):
        bands.add(start, values[start : start + 20])
    firsts = firsts_of(values)
    wanted = {(number, firsts[band]) for number, own in enumerate(values.tolist()) for band in own}
    found = [pair for numbers, others in bands.candidates() for pair in zip(numbers.tolist(), others.tolist())]
    assert found == sorted(pair for pair in wanted if pair[0] > pair[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_buckets")
def test_chains_of_duplicates_are_found_as_by_comparing_each_row_with_the_firsts_of_its_bands(tmp_path: Path) -> None:
    """100 rows, of which half are one of the last five with up to 40 of 128 hashes changed: what is like a row that is
    like another one, in two scopes."""
    draw = np.random.default_rng(3)
    hashes = draw.integers(0, 2**32, (100, PERMUTATIONS)).astype(np.uint32)
    for number in range(5, 100, 2):
        own = hashes[number - draw.integers(1, 6)].copy()
        changed = draw.choice(PERMUTATIONS, draw.integers(0, 41), replace=False)
        own[changed] = draw.integers(0, 2**32, len(changed))
        hashes[number] = own
    scope = np.arange(100, dtype=np.uint64) // np.uint64(50)
    values = bands_of(hashes, scope, 0.8)
    firsts = firsts_of(values)
    wanted = {
        (10 * number, 10 * firsts[band], float((hashes[number] == hashes[firsts[band]]).mean()))
        for number, own in enumerate(values.tolist())
        for band in own
        if firsts[band] < number and (hashes[number] == hashes[firsts[band]]).mean() >= 0.8
    }
    workspace: Any = SimpleNamespace(connection=duckdb.connect(), scratch=tmp_path)
    with TemporaryFile(dir=tmp_path) as file:
        signed = Signed(workspace, file, 100, 0.8)
        for start in range(0, 100, 64):
            part = slice(start, start + 64)
            positions = 10 * np.arange(100)[part]
            signed.add(pa.table({"position": positions, "scope": scope[part]}), hashes[part])
        signed.compare()
    found = workspace.connection.execute("SELECT position, first, likeness FROM alike").fetchall()
    assert len(found) == len(wanted) > 20 and set(found) == wanted
    chained = {position for position, _, _ in found} & {first for _, first, _ in found}
    assert chained
