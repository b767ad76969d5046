"""The library of compiled kernels: named by what it is made of, never half there, and not needed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pangu_rl.accelerators import native
from pangu_rl.accelerators.attention import compiled
from pangu_rl.accelerators.attention.plain import PLAIN
from pangu_rl.errors import RunError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path))
    native.load_native.cache_clear()
    compiled.compiled_or_plain.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    native.load_native.cache_clear()
    compiled.compiled_or_plain.cache_clear()


def test_without_the_library_attention_runs_in_torch_and_one_line_says_how_to_build_it(
    empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert compiled.compiled_or_plain() is PLAIN
        assert compiled.compiled_or_plain() is PLAIN
    assert [native.BUILD in record.message for record in caplog.records] == [True]


def test_a_library_of_another_system_is_named_and_not_used(empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = native.library_path()
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library")
    with caplog.at_level(logging.WARNING):
        assert not native.load_native()
    assert [str(library) in record.message and native.BUILD in record.message for record in caplog.records] == [True]


def test_no_compiler_is_said_in_one_line(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RunError, match="no-such-compiler: no C"):
        native.build()
    assert not native.library_path().exists()


def test_a_failed_build_leaves_nothing_and_says_why(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = empty_cache / "broken.cpp"
    broken.write_text("#error out of order\n", encoding="utf-8")
    monkeypatch.setattr(native, "_sources", lambda: [broken])
    with pytest.raises(RunError, match="out of order"):
        native.build()
    assert list(native.library_path().parent.iterdir()) == []


def test_other_sources_flags_or_processors_have_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    here = native.library_path()
    monkeypatch.setattr(native, "_features", lambda: "flags: fpu")
    assert native.library_path() != here
