"""Only regular files under the media root are ever opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pangu_rl.errors import DataError
from pretrain.processing.media_root import open_inside, read_inside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "file").write_bytes(b"inside")
    (folder / "link").symlink_to("a/file")
    (folder / "empty").touch()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "media2").mkdir()
    (tmp_path / "media2" / "secret").write_bytes(b"outside")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    return folder


@pytest.mark.parametrize("path", ["a/file", "a/../a/file", "./a/file", "link"])
def test_a_file_under_the_root_is_read(root: Path, path: str) -> None:
    assert read_inside(path, root, 6) == b"inside"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret", "leaves the media root"),
        ("../media2/secret", "leaves the media root"),
        ("a/../../secret", "leaves the media root"),
        ("out", "leaves the media root"),
        ("up/secret", "leaves the media root"),
        ("/etc/passwd", "relative to the media root"),
        ("..\\secret", "relative to the media root"),
        ("http://example.org/a.png", "relative to the media root"),
        ("file:///etc/passwd", "relative to the media root"),
        ("data:image/png;base64,AA==", "relative to the media root"),
        ("a\0b", "relative to the media root"),
        ("missing", "No such file"),
        ("a", "no regular file"),
        ("", "no regular file"),
        ("pipe", "no regular file"),
        ("empty", r"empty \(0 bytes\)"),
        ("loop", "resolved|symbolic"),
        ("x" * 5000, "resolved|too long"),
        ("line\nbreak", "No such file"),
    ],
)
def test_anything_else_is_refused_in_one_line(root: Path, path: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        open_inside(path, root)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_a_large_file_is_refused_with_both_sizes(root: Path) -> None:
    with pytest.raises(DataError, match=r"'a/file': 6 bytes, the limit is 5"):
        read_inside("a/file", root, 5)
