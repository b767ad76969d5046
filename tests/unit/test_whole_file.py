"""A file appears whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pangu_rl.whole_file import whole_file


def test_a_name_stands_for_what_was_written_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    with whole_file(path, flushed=True) as partial:
        partial.write_text("half")
        assert path.read_text() == "before"
        partial.write_text("whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)  # not those of a temporary file


def test_after_an_error_everything_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass  # nothing was written
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    with whole_file(path) as one, whole_file(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the last to end


@pytest.mark.parametrize("name", ["a" * 255, "\u76d8" * 85])
def test_a_name_may_be_as_long_as_names_are(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) == 255
    with whole_file(tmp_path / name) as partial:
        partial.write_text("x")
    assert (tmp_path / name).read_text() == "x"
