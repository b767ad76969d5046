"""Copies of remote files, over fsspec's memory and local file systems: fetched once, bounded, anew when changed."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from pangu_rl.config.paths import remote_address, remote_root, resolve_path
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError, RunError
from pangu_rl.storage import copies, space
from pangu_rl.storage.copies import bring, has_folder, is_remote, local_copy
from pangu_rl.storage.file_lock import held
from pangu_rl.storage.space import BOOK, BOUND
from pretrain.processing.media_root import open_inside
from pretrain.processing.pictures import open_picture
from pretrain.processing.video_source import open_video
from tests.unit.data.vl_folder import draw


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """An empty storage in memory, and a cache of its own."""
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    storage = fsspec.filesystem("memory")
    storage.store.clear()
    yield storage
    storage.store.clear()


def put(address: str, content: bytes) -> Path:
    with fsspec.open(address, "wb") as file:
        file.write(content)
    return resolve_path(address)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("s3://bucket/a/b.jsonl", "s3/bucket/a/b.jsonl"),
        ("obs://bucket", "obs/bucket"),
        ("hdfs://name:8020/data/x", "hdfs/name:8020/data/x"),
        ("hdfs:///data/x", "hdfs/@/data/x"),
    ],
)
def test_a_copy_lies_at_its_address_in_the_cache(address: str, place: str) -> None:
    copy = resolve_path(address)
    assert copy == remote_root() / place and is_remote(copy)
    assert remote_address(copy) == address + ("/" if address == "obs://bucket" else "")


@pytest.mark.parametrize(
    "address", ["http://a.b/c", "https://a.b/c", "simplecache::s3://a/b", "s3://a/../b", "s3://../b"]
)
def test_the_web_and_what_leaves_its_storage_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=address.replace(".", r"\.")):
        resolve_path(address)


def test_a_missing_driver_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"obs://bucket/a: needs a package that registers 'obs' with fsspec"):
        local_copy(resolve_path("obs://bucket/a"))
    if not _has("s3fs"):
        with pytest.raises(ConfigError, match=r"s3://bucket/a: needs s3fs, which is not installed"):
            local_copy(resolve_path("s3://bucket/a"))


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_a_file_is_fetched_once(memory: fsspec.AbstractFileSystem) -> None:
    copy = put("memory://bucket/a.txt", b"one")
    assert local_copy(copy).read_bytes() == b"one"
    memory.rm("/bucket/a.txt")
    assert local_copy(copy).read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        local_copy(resolve_path("memory://bucket/b.txt"))
    assert local_copy(Path("/nowhere")) == Path("/nowhere")
    assert [file.name for file in remote_root().rglob("*") if file.is_file()] == [BOOK, "a.txt"]


@pytest.mark.parametrize("lock", ["book", "file"])
def test_who_waits_for_another_process_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lock: str
) -> None:
    """It has the file, or the book of all sizes, for as long as it takes; what is left free soon is no word."""
    copy = put("memory://bucket/a.txt", b"one")
    monkeypatch.setattr(copies, "LOCKS", 1)
    place = remote_root().with_name("remote_locks") / ("book" if lock == "book" else "0")
    with ThreadPoolExecutor(1) as pool:
        for quiet_s, lines in ((60.0, 0), (0.0, 1)):
            monkeypatch.setattr(space, "QUIET_S", quiet_s)
            with held(place, print):
                waiting = pool.submit(local_copy, copy)
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.2)
            assert waiting.result(timeout=10).read_bytes() == b"one"
            assert len(caplog.messages) == lines
            copy.unlink()
    assert f"remote_locks/{place.name} is held by process {os.getpid()} on {platform.node()}: waiting" in caplog.text


def age(copy: Path, seconds: int) -> None:
    """As if it had been used so long ago."""
    status = copy.stat()
    os.utime(copy, ns=(status.st_atime_ns - seconds * 10**9, status.st_mtime_ns))


@pytest.mark.parametrize("failure", [OSError("connection reset"), PermissionError("no such key"), KeyError("Body")])
def test_a_storage_that_fails_is_no_fault_of_the_row(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception
) -> None:
    """A row with a bad picture may be left out; one whose picture did not come must end the run."""
    root = put("memory://bucket/a.png", draw(tmp_path / "a.png", 60, 40).read_bytes()).parent

    def fails(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(type(memory), "get_file", fails)
    with pytest.raises(RunError, match=r"memory://bucket/a\.png: cannot be fetched: .*the same command goes on"):
        open_picture("a.png", root)
    with pytest.raises(DataError):
        open_picture("b.png", root)


def test_the_least_recently_used_leave_when_the_bound_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound 1,000 bytes, files of 300: with a fourth there would be 1,200, so that 900 - 300 may stay, two of them.
    The first was used last, and the second leaves."""
    monkeypatch.setenv(BOUND, "1000")
    copies = [put(f"memory://bucket/{name}", bytes(300)) for name in "abcd"]
    for number, copy in enumerate(copies[:3]):
        age(local_copy(copy), 100 - number)
    local_copy(copies[0])
    local_copy(copies[3])
    assert [copy.exists() for copy in copies] == [True, False, True, True]
    assert (remote_root() / BOOK).read_text() == "900"
    local_copy(copies[1])
    assert sum(copy.exists() for copy in copies) == 3
    with pytest.raises(ConfigError, match=r"memory://bucket/large: 901 bytes.*remote_cache_gib.*are 900"):
        local_copy(put("memory://bucket/large", bytes(901)))


def test_what_is_being_fetched_stays_and_what_a_killed_fetch_left_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOUND, "1000")
    folder = resolve_path("memory://bucket/folder")
    put("memory://bucket/folder/a", bytes(300))
    folder.mkdir(parents=True)
    fetching, abandoned = folder / ".b.4242.1", folder / ".c.17.1"
    for partial in (fetching, abandoned):
        partial.write_bytes(bytes(300))
    two_days_ago = time.time() - 2 * 86_400
    os.utime(abandoned, (two_days_ago, two_days_ago))
    bring([folder])
    assert fetching.exists() and (folder / "a").exists()
    for name in "def":
        local_copy(put(f"memory://bucket/{name}", bytes(300)))
    assert fetching.exists() and not abandoned.exists()


def test_folders_are_brought_anew_where_they_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / name).write_text(name)
    os.utime(source / "b", (1, 2))
    began = time.time_ns()
    folder = resolve_path(f"file://{source}")
    bring([folder])
    copy = (folder / "b").stat()
    assert copy.st_mtime == 2 and copy.st_atime_ns >= began, "what is old there was used now"
    (source / "a").write_text("another")
    (source / "c").unlink()
    bring([folder])
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"a": "another", "b": "b"}
    assert (folder / "b").stat().st_ino == copy.st_ino
    with pytest.raises(DataError, match="no such file or folder"):
        bring([resolve_path(f"file://{tmp_path}/nothing")])
    monkeypatch.setenv(BOUND, "8")
    with pytest.raises(ConfigError, match="8 bytes"):
        bring([folder])


def test_pictures_are_fetched_when_they_are_due_and_addresses_in_rows_never(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "p.png", 60, 40, seed=1)
    root = put("memory://bucket/media/p.png", drawn.read_bytes()).parent
    assert has_folder(root) and not root.exists()
    assert open_picture("p.png", root).image.size == (60, 40)
    assert [file.name for file in root.iterdir()] == ["p.png"]
    put("memory://bucket/secret.png", drawn.read_bytes())
    for path, reason in [
        ("memory://bucket/media/p.png", "relative to the media root"),
        ("https://a.b/p.png", "relative to the media root"),
        ("../secret.png", "leaves the media root"),
        ("q.png", "No such file"),
    ]:
        with pytest.raises(DataError, match=reason):
            open_inside(path, root)


def test_a_folder_of_frames_has_those_of_its_storage_whichever_are_there_already(tmp_path: Path) -> None:
    for number in range(3):
        frame = draw(tmp_path / f"{number}.png", 60, 40, seed=number)
        copy = put(f"memory://bucket/media/frames/{number}.png", frame.read_bytes())
    local_copy(copy)
    with open_video("frames", copy.parents[1]) as video:
        assert (video.header.frames, video.header.width) == (3, 60)
        assert len(list(video.frames(np.arange(3)))) == 3
    with pytest.raises(DataError, match="video 'none': No such file"), open_video("none", copy.parents[1]):
        pass


def test_rows_are_read_through_their_index_and_come_back_when_they_have_left() -> None:
    rows = [{"id": str(number), "prompt": "?", "response": "!"} for number in range(3)]
    copy = put("memory://bucket/rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    bring([copy])
    files = open_rows(copy, on_bad_row="refuse")
    assert not files.index.folder.is_relative_to(remote_root())
    copy.unlink()
    assert files.uid(2) == "2"
    copy.unlink()
    assert len(open_rows(files.index.folder, on_bad_row="refuse")) == 3
