"""A digest is kept while everything that `stat` says is the same, and read anew when anything is not, or when asked."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pangu_rl.loops.pipeline import kept_digests
from pangu_rl.loops.pipeline.kept_digests import DIGESTS, KeptDigests

CONTENT = b"rows"
TRUE = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that changed long enough ago."""
    monkeypatch.setattr(kept_digests, "SETTLED_S", -1.0)
    (tmp_path / "rows").write_bytes(CONTENT)
    return tmp_path / "rows"


def started(rows: Path, verify: bool = False) -> str:
    """What a start of a pipeline says of the file."""
    digests = KeptDigests()
    with digests.in_folder(rows.parent, verify):
        return digests.sha256(rows)


def forge(rows: Path) -> None:
    """Have the kept digest be one that nobody reads off the file."""
    path = rows.parent / DIGESTS
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), "kept")))


def test_a_file_that_has_not_changed_is_not_read(rows: Path) -> None:
    assert started(rows) == TRUE
    forge(rows)
    assert started(rows) == "kept" == started(rows)
    assert started(rows, verify=True) == TRUE == started(rows)


@pytest.mark.parametrize("change", ["content", "time alone", "another file", "content, with its time set back"])
def test_a_file_that_has_changed_is_read(rows: Path, change: str) -> None:
    started(rows)
    forge(rows)
    before = rows.stat()
    if change == "time alone":
        os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert started(rows) == TRUE
        return
    if change == "another file":
        (rows.parent / "other").write_bytes(b"swor")
        os.replace(rows.parent / "other", rows)
    else:
        rows.write_bytes(b"swor")
    if change.endswith("set back"):
        os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert started(rows) == hashlib.sha256(b"swor").hexdigest()


def test_a_file_that_has_just_changed_is_not_kept(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_digests, "SETTLED_S", 3600.0)
    assert started(rows) == TRUE
    assert json.loads((rows.parent / DIGESTS).read_text()) == {}


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"x": 3}', "{"])
def test_a_torn_or_foreign_file_is_nothing_that_is_known(rows: Path, text: str) -> None:
    (rows.parent / DIGESTS).write_text(text)
    assert started(rows) == TRUE
    assert list(json.loads((rows.parent / DIGESTS).read_text()).values()) == [TRUE]
