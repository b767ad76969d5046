"""The store of reference log-probs: exact, continued after a crash by whole chunks, refused for anything else."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pangu_rl.data.reference import Reference, ReferenceIdentity, ReferenceStore
from pangu_rl.errors import DataError

IDENTITY = ReferenceIdentity(model="a" * 64, dtype="bfloat16", pairs="b" * 32)
IDS = ["p0", "p1", "p2", "p3", "p4"]
DONE = [Reference(uid, -1 / 3 - index, -200.123456789012 * (index + 1)) for index, uid in enumerate(IDS)]


def store(path: Path, **changes: str) -> ReferenceStore:
    return ReferenceStore(path / "store" / "reference.jsonl", replace(IDENTITY, **changes), IDS, chunk=2)


@pytest.fixture
def full(tmp_path: Path) -> ReferenceStore:
    made = store(tmp_path)
    with made.held(print, lambda: None):
        assert made.read() == []
        for start in (0, 2, 4):
            made.add(DONE[start : start + 2])
    return made


def test_what_is_added_is_read_to_the_last_digit(full: ReferenceStore, tmp_path: Path) -> None:
    assert store(tmp_path).read() == DONE


def test_a_second_run_waits_for_what_the_first_one_computes(full: ReferenceStore, tmp_path: Path) -> None:
    full.path.unlink()
    order: list[str] = []
    told: list[str] = []

    def second() -> list[Reference]:
        other = store(tmp_path)
        with other.held(told.append, lambda: None):
            order.append("second")
            return other.read()

    with ThreadPoolExecutor(1) as pool:
        with full.held(print, lambda: None):
            waiting = pool.submit(second)
            full.read()
            for start in (0, 2, 4):
                full.add(DONE[start : start + 2])
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            order.append("first")
        assert waiting.result(timeout=10) == DONE
    assert order == ["first", "second"]
    [line] = told
    assert f".reference.jsonl.lock is held by process {os.getpid()} on {platform.node()}: waiting" in line


@pytest.mark.parametrize(("cut", "kept"), [(1, 4), (60, 4), (200, 2)])
def test_a_file_that_a_crash_cut_goes_on_after_its_last_whole_chunk(
    full: ReferenceStore, tmp_path: Path, cut: int, kept: int
) -> None:
    whole = full.path.read_bytes()
    full.path.write_bytes(whole[:-cut])
    again = store(tmp_path)
    assert again.read() == DONE[:kept]
    for start in range(kept, 5, 2):
        again.add(DONE[start : start + 2])
    assert full.path.read_bytes() == whole


OTHERS = {
    "model": ("c" * 64, "made by another model: its sha256 was aaaaaaaaaaaaaaaa, now it is cccccccccccccccc"),
    "dtype": ("float32", "made in another dtype: it was bfloat16, now it is float32"),
    "pairs": ("d" * 32, "made for other pairs: their fingerprint was bbbbbbbbbbbbbbbb, now it is dddddddddddddddd"),
}


@pytest.mark.parametrize("key", OTHERS)
def test_a_store_of_something_else_is_refused_and_kept(full: ReferenceStore, tmp_path: Path, key: str) -> None:
    value, message = OTHERS[key]
    whole = full.path.read_bytes()
    with pytest.raises(DataError, match=message):
        store(tmp_path, **{key: value}).read()
    assert full.path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"not ours", b'{"some": "json"}\n', b"\n\n"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    other = store(tmp_path)
    other.path.parent.mkdir()
    other.path.write_bytes(content)
    if content:
        with pytest.raises(DataError, match="not a store of reference log-probs"):
            other.read()
        assert other.path.read_bytes() == content
    else:
        assert other.read() == []


def test_a_damaged_store_is_refused(full: ReferenceStore, tmp_path: Path) -> None:
    full.path.write_bytes(full.path.read_bytes().replace(b'"p1"', b'"p9"'))
    with pytest.raises(DataError, match="damaged"):
        store(tmp_path).read()
