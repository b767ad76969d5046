"""Pictures come from under the media root as data, or not at all."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from PIL import Image

from pretrain.processing.pictures import MAX_PIXELS
from rewards.scorers.pictures import BadPicture, picture_url

LIMIT = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "a" / "red.png")
    Image.new("RGB", (8, 8), "red").save(folder / "red.jpg")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "note.png").write_text("not a picture")
    (folder / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize(("path", "kind"), [("a/red.png", "png"), ("red.jpg", "jpeg"), ("a/../a/red.png", "png")])
def test_a_picture_is_sent_as_it_is(root: Path, path: str, kind: str) -> None:
    head, data = picture_url(path, root, LIMIT).split(",")
    assert head == f"data:image/{kind};base64"
    assert base64.b64decode(data) == (root / path).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "a/../../secret.png",
        "out.png",
        "up/secret.png",
        "/etc/passwd",
        "..\\secret.png",
        "a/red.png\0.txt",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AA==",
        "",
        ".",
        "a",
        "missing.png",
        "note.png",
        "vector.svg",
        "pipe.png",
        "x" * 5000,
    ],
)
def test_everything_else_is_refused_in_one_line(root: Path, path: str) -> None:
    with pytest.raises(BadPicture) as caught:
        picture_url(path, root, LIMIT)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_too_large_a_file_and_too_many_pixels_are_refused(root: Path) -> None:
    with pytest.raises(BadPicture, match="max_image_mib"):
        picture_url("a/red.png", root, 10)
    Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)).save(root / "bomb.png")
    with pytest.raises(BadPicture, match="pixels"):
        picture_url("bomb.png", root, LIMIT)


def test_without_a_media_root_nothing_is_read() -> None:
    with pytest.raises(BadPicture, match="media_root"):
        picture_url("a.png", None, LIMIT)
