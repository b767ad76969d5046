"""WebDataset shards: samples grouped by name, pictures read inside the tar, hostile tars refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pangu_rl.data.files.rows import numbered_rows
from pangu_rl.data.prompts import load_prompts
from pangu_rl.errors import DataError
from pretrain.processing import shards
from pretrain.processing.media_root import open_inside, read_inside
from pretrain.processing.pictures import open_picture


def png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, "PNG")
    return buffer.getvalue()


def row(**more: Any) -> bytes:
    return json.dumps({"prompt": "What colour?", "answer": "red", **more}).encode()


def shard(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_sample_is_its_row_with_the_pictures_of_its_name(tmp_path: Path) -> None:
    files = {
        "a/1.json": row(),
        "a/1.png": png((255, 0, 0)),
        "a/2.0.png": png((0, 255, 0)),
        "a/2.1.png": png((0, 0, 255)),
        "a/2.json": row(),
        "a/3.json": row(images=["a/1.png"]),
    }
    loaded = load_prompts(shard(tmp_path / "one.tar", files))
    assert [prompt.images for prompt in loaded.records] == [
        ("one.tar/a/1.png",),
        ("one.tar/a/2.0.png", "one.tar/a/2.1.png"),
        ("one.tar/a/1.png",),
    ]
    assert [prompt.uid for prompt in loaded.records] == ["one:1", "one:2", "one:3"]


def test_a_sample_has_the_videos_of_its_name(tmp_path: Path) -> None:
    files = {"1.json": row(), "1.mp4": b"video", "1.png": png((1, 2, 3)), "2.json": row()}
    both, none = load_prompts(shard(tmp_path / "one.tar", files)).records
    assert (both.videos, both.images) == (("one.tar/1.mp4",), ("one.tar/1.png",))
    assert (none.videos, none.images) == ((), ())


def test_a_picture_in_a_tar_is_the_same_picture(tmp_path: Path) -> None:
    content = png((10, 200, 30))
    shard(tmp_path / "one.tar", {"x.json": row(), "x.png": content})
    (tmp_path / "x.png").write_bytes(content)
    inside, outside = (open_picture(path, tmp_path) for path in ("one.tar/x.png", "x.png"))
    assert inside.sha256 == outside.sha256 and inside.image.getpixel((0, 0)) == (10, 200, 30)


def test_a_folder_of_shards_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    shard(tmp_path / "b.tar", {"1.json": row(answer="second")})
    shard(tmp_path / "a.tar", {"1.json": row(answer="first")})
    assert [raw["answer"] for _, raw in numbered_rows(tmp_path)] == ["first", "second"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"1.json": row(), "2.png": png((0, 0, 0))}, "row 2: is not JSON"),
        ({"1.json": row(), "2.json": b"{broken"}, "row 2: is not JSON"),
        ({"1.json": row(), "2.json": b"[1]"}, "row 2: is a JSON list"),
    ],
)
def test_a_sample_without_a_row_is_a_bad_row(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    path = shard(tmp_path / "one.tar", files)
    with pytest.raises(DataError, match=reason):
        load_prompts(path)
    assert len(load_prompts(path, on_bad_row="skip").skipped) == 1


def test_names_that_climb_are_names_and_nothing_more(tmp_path: Path) -> None:
    """`../evil` in a tar neither is written anywhere nor lets a row leave the media root."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(png((1, 2, 3)))
    shard(root / "one.tar", {"../evil.json": row(), "/abs.json": row(images=["../../secret.png"])})
    found = load_prompts(root / "one.tar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["one.tar", "root", "secret.png"]
    [_, climbing] = found.records
    with pytest.raises(DataError, match="leaves the media root"):
        open_inside(climbing.images[0], root)


def test_links_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"one\.tar has no file '1\.png'"):
        read_inside("one.tar/1.png", tmp_path, 100)


def test_the_limit_holds_inside_a_tar(tmp_path: Path) -> None:
    shard(tmp_path / "one.tar", {"a.txt": b"123456"})
    assert read_inside("one.tar/a.txt", tmp_path, 6) == b"123456"
    with pytest.raises(DataError, match="6 bytes, the limit is 5"):
        read_inside("one.tar/a.txt", tmp_path, 5)


def test_a_compressed_tar_is_refused_by_name(tmp_path: Path) -> None:
    path = shard(tmp_path / "one.tar", {"1.json": row()}, "w:gz")
    with pytest.raises(DataError, match=r"one\.tar: no plain tar"):
        list(numbered_rows(path))


def test_a_tar_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = shard(tmp_path / "one.tar", {"a.txt": b"old"})
    assert read_inside("one.tar/a.txt", tmp_path, 9) == b"old"
    shard(path, {"longer/name.txt": b"x" * 20000, "a.txt": b"new"})
    assert read_inside("one.tar/a.txt", tmp_path, 9) == b"new"


def test_the_members_of_a_large_tar_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process reads the index; a tar that was replaced, or an index that was cut, is scanned anew."""
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "INDEXED", 3)
    path = shard(tmp_path / "one.tar", {f"{number}.json": row(answer=str(number)) for number in range(4)})
    small = shard(tmp_path / "small.tar", {"1.json": row()})
    scans = []
    monkeypatch.setattr(shards, "_scanned", lambda tar, scan=shards._scanned: scans.append(tar.name) or scan(tar))

    def members_in_a_new_process(tar: Path) -> dict[str, tuple[int, int]]:
        shards._members.cache_clear()
        return shards.members(tar)

    first = members_in_a_new_process(path)
    assert members_in_a_new_process(path) == first and list(first) == ["0.json", "1.json", "2.json", "3.json"]
    assert scans == ["one.tar"]
    assert members_in_a_new_process(small) == members_in_a_new_process(small)
    assert scans == ["one.tar", "small.tar", "small.tar"]
    [index] = (tmp_path / "cache" / "tar_indexes").iterdir()
    index.write_text(index.read_text()[:40])
    assert members_in_a_new_process(path) == first and scans[3:] == ["one.tar"]
    shard(path, {"longer/name.json": row(answer="x" * 2000), "a.json": row(), "b.json": row()})
    assert list(members_in_a_new_process(path)) == ["longer/name.json", "a.json", "b.json"]
    assert shards.read_member(path, "a.json", 1000) == row()
