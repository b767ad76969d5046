"""An index on disk: what it says of rows in every kind of file, how it is checked, and which rows it has not."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.data.files.row_files import RowFiles, open_rows
from pangu_rl.data.index import build, files, ids
from pangu_rl.data.index.build import build_index
from pangu_rl.data.index.manifest import MANIFEST
from pangu_rl.data.index.opening import open_index
from pangu_rl.errors import DataError
from tests.unit.data.files.test_webdataset import png, shard

ROWS = [
    {"prompt": "é" * (n + 1), "response": "ab", "source": "ab"[n % 2], "images": ["a.png"] * (n % 3), "id": f"r{n}"}
    for n in range(9)
]


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def tar(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return shard(path, {f"{number:03d}.json": json.dumps(row).encode() for number, row in enumerate(rows)})


KINDS = [(jsonl, "rows.jsonl"), (parquet, "rows.parquet"), (tar, "rows.tar")]


@pytest.mark.parametrize(("write", "name"), KINDS[:2])
def test_missing_videos_are_named(tmp_path: Path, write, name: str) -> None:
    """A folder of frames is there; one that is named as a picture is not."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "v.mp4").write_bytes(b"video")
    shown = [{"videos": ["v.mp4", "frames"]}, {"videos": ["gone.mp4"]}, {"images": ["frames"]}]
    said = {"prompt": "p", "response": "r", "frames": [8, 3], "duration": [4.5, 3.0]}
    rows = [{"id": f"r{n}", **said, "videos": [], "images": [], **media} for n, media in enumerate(shown)]
    opened = open_rows(write(tmp_path / name, rows), on_bad_row="skip", media_root=tmp_path)
    assert [opened.uid(row) for row in range(len(opened))] == ["r0"]
    assert "'gone.mp4': No such file" in opened.skipped[0] and "no regular file" in opened.skipped[1]
    assert opened.read(0).videos == ("v.mp4", "frames")


@pytest.mark.parametrize(("write", "name"), KINDS[:2])
def test_numbers_that_no_size_can_be_are_no_matter_of_an_index(tmp_path: Path, write, name: str) -> None:
    odd = {"frames": float("nan"), "text_tokens": float("inf"), "duration": 1e300, "width": [2**40]}
    index = open_index([write(tmp_path / name, [row | odd for row in ROWS])])
    assert len(index) == 9


def test_rows_of_a_source_are_numbered_over_all_shards(tmp_path: Path) -> None:
    paths = [jsonl(tmp_path / "a.jsonl", ROWS[:4]), parquet(tmp_path / "b.parquet", ROWS[4:])]
    index = open_index(paths)
    assert index.sources == {"a": 5, "b": 4}
    assert list(index.of_source("a")) == [0, 2, 4, 6, 8]
    assert list(index.of_source("b")) == [1, 3, 5, 7]
    assert len(index.of_source("none")) == 0


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few rows have a shard, and ids lie in many files."""
    monkeypatch.setattr(files, "PIECE", 128)
    monkeypatch.setattr(files, "BLOCK", 64)
    monkeypatch.setattr(files, "GROUP_ROWS", 2)
    monkeypatch.setattr(ids, "ROWS", 2)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("write", "name"), KINDS)
@pytest.mark.parametrize("named", [True, False])
def test_shards_are_one_list_of_rows(tmp_path: Path, write, name: str, named: bool) -> None:
    rows = [row if named else {key: value for key, value in row.items() if key != "id"} for row in ROWS]
    opened = open_rows(write(tmp_path / name, rows), on_bad_row="refuse")
    assert len(opened.index.manifest.shards) > 2 or name == "rows.tar"
    assert opened.index.manifest.id_bits > 1
    uids = [opened.uid(row) for row in range(9)]
    assert uids == [f"r{row}" if named else f"rows:{row + 1}" for row in range(9)]
    assert opened.rows_of([*reversed(uids), "none"]).tolist() == [*reversed(range(9)), -1]
    assert [opened.read(row).messages[0]["content"] for row in range(9)] == [row["prompt"] for row in ROWS]


@pytest.mark.usefixtures("small_pieces")
def test_blank_lines_and_a_last_line_without_its_end_are_numbered(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n" + "\n\n\n".join(lines))
    opened = open_rows(path, on_bad_row="refuse")
    assert [opened.index.place(row).number for row in range(9)] == [3 + 3 * row for row in range(9)]
    assert [opened.uid(row) for row in range(9)] == [row["id"] for row in ROWS]


@pytest.mark.usefixtures("small_pieces")
def test_an_id_is_refused_or_left_out_wherever_its_first_row_lies(tmp_path: Path) -> None:
    paths = [jsonl(tmp_path / "a.jsonl", ROWS), parquet(tmp_path / "b.parquet", [{"id": "x"}, ROWS[3], ROWS[7]])]
    with pytest.raises(DataError, match=r"b.parquet, row 2: id 'r3' is already that of row 4 of .*a.jsonl.*1 more row"):
        open_rows(paths, on_bad_row="refuse")
    opened = open_rows(paths, on_bad_row="skip")
    assert opened.left_out == 2 and len(opened) == 10
    assert opened.rows_of(["r3", "x", "r7"]).tolist() == [3, 9, 7]
    assert list(opened.index.of_source("b")) == [1, 3, 5, 7]


def test_ids_of_one_hash_are_two_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_rl.data.index.scan.hash_of", lambda uid: 5)
    monkeypatch.setattr("pangu_rl.data.index.row_index.hash_of", lambda uid: 5)
    opened = open_rows(jsonl(tmp_path / "rows.jsonl", ROWS), on_bad_row="refuse")
    assert len(opened) == 9
    assert opened.rows_of(["r8", "r0", "none"]).tolist() == [8, 0, -1]


@pytest.mark.parametrize(("write", "name"), KINDS[:2])
def test_missing_media_are_named_at_build(tmp_path: Path, write, name: str) -> None:
    media = tmp_path / "media"
    shard((media / "s.tar", media.mkdir())[0], {"in.png": png((1, 2, 3))})
    (media / "a.png").write_bytes(png((1, 2, 3)))
    (media / "empty.png").write_bytes(b"")
    shown = [
        ["a.png"],
        ["s.tar/in.png"],
        ["a.png", "gone.png"],
        ["s.tar/not.png"],
        ["empty.png"],
        ["../rows.jsonl"],
        [],
    ]
    rows = [{"id": f"r{n}", "prompt": "p", "response": "r", "images": images} for n, images in enumerate(shown)]
    path = write(tmp_path / name, rows)
    with pytest.raises(DataError, match=r"row 3: picture 'gone.png': No such file.*; 3 more rows"):
        open_rows(path, on_bad_row="refuse", media_root=media)
    opened = open_rows(path, on_bad_row="skip", media_root=media)
    assert [opened.uid(row) for row in range(len(opened))] == ["r0", "r1", "r6"]
    assert "s.tar has no such file" in opened.skipped[1] and "empty" in opened.skipped[2]
    assert "leaves the media root" in opened.skipped[3]
    assert len(open_rows(path, on_bad_row="refuse")) == 7  # without a root none is looked for


@pytest.mark.parametrize(("write", "name"), KINDS)
def test_an_index_is_made_once_and_follows_its_files(tmp_path: Path, write, name: str, capfd, monkeypatch) -> None:
    path = write(tmp_path / name, ROWS)
    first = open_index([path])
    made = (first.folder / MANIFEST).stat().st_mtime_ns
    assert "indexed the 9 rows" in capfd.readouterr().err
    assert (open_index([path]).folder / MANIFEST).stat().st_mtime_ns == made
    assert capfd.readouterr().err == ""
    os.utime(path, ns=(1, 1))  # a copy: the content is the same, and is read once for it
    assert open_index([path]).manifest.files[0].modified_ns == 1
    with monkeypatch.context() as patch:
        patch.setattr("pangu_rl.data.index.manifest.content_digest", None)
        assert open_index([path]).manifest.digest == first.manifest.digest
    assert capfd.readouterr().err == ""
    write(path, [*ROWS[:-1], ROWS[-1] | {"response": "cd"}])
    again = open_index([path])
    assert "has changed since its rows were indexed" in (said := capfd.readouterr().err) and "made anew" in said
    assert again.manifest.digest != first.manifest.digest
    more = jsonl(tmp_path / "more.jsonl", [{"id": "new"}])
    assert len(open_index([path, more])) == 10


def test_a_file_that_comes_into_a_folder_is_indexed(tmp_path: Path) -> None:
    parquet(tmp_path / "d" / "a.parquet", ROWS[:2])
    assert len(open_index([tmp_path / "d"])) == 2
    parquet(tmp_path / "d" / "b.parquet", ROWS[2:])
    assert len(open_index([tmp_path / "d"])) == 9


def test_a_named_index_stands_for_its_files_and_moves_with_them(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "here" / "data" / "rows.jsonl", ROWS)
    index = build_index([path], tmp_path / "here" / "index")
    (tmp_path / "here").rename(tmp_path / "there")
    path = tmp_path / "there" / "data" / "rows.jsonl"
    opened = open_rows(tmp_path / "there" / "index", on_bad_row="refuse")
    assert opened.digest == index.manifest.digest and opened.uid(8) == "r8"
    assert str(opened.index.place(2)) == f"{path}, row 3"
    jsonl(path, ROWS[:-1])
    with pytest.raises(DataError, match=r"rows.jsonl has changed since .* bytes with ends .*, now .* `pangu-rl index`"):
        open_rows(tmp_path / "there" / "index", on_bad_row="refuse")
    path.unlink()
    with pytest.raises(DataError, match="No such file or directory; it was there when its rows were indexed"):
        open_rows(tmp_path / "there" / "index", on_bad_row="refuse")


def test_a_row_that_is_another_now_is_not_read(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    opened = open_rows(path, on_bad_row="refuse")
    path.write_text(path.read_text().replace("r4", "r5"))
    with pytest.raises(DataError, match="row 5 is 'r5', another row than was indexed"):
        opened.read(4)


def test_a_loader_elsewhere_opens_the_same_index_or_none(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    opened = open_rows(path, on_bad_row="refuse")
    sent = pickle.dumps(opened)
    assert len(sent) < 1000
    copy: RowFiles = pickle.loads(sent)
    assert copy.uid(3) == "r3"
    jsonl(path, ROWS[:5])
    open_rows(path, on_bad_row="refuse")
    with pytest.raises(DataError, match="is another index here"):
        pickle.loads(sent)


def test_what_cannot_be_indexed_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match="named twice"):
        build_index([path, path], tmp_path / "index")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="holds something that is no index of rows"):
        build_index([path], tmp_path / "mine")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        build_index([tmp_path / "broken.parquet"], tmp_path / "index")
    parquet(tmp_path / "s.parquet", [{"id": "a", "source": 3}])
    with pytest.raises(DataError, match=r"s.parquet: column source is int64, not text"):
        build_index([tmp_path / "s.parquet"], tmp_path / "index")
    assert not [left for left in tmp_path.iterdir() if "unfinished" in left.name]


def test_worker_processes_make_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [jsonl(tmp_path / "a.jsonl", ROWS[:5]), parquet(tmp_path / "b.parquet", ROWS[4:])]
    alone = build_index(paths, tmp_path / "alone")
    monkeypatch.setattr(build, "ALONE", 0)
    together = build_index(paths, tmp_path / "together", workers=2)
    assert together.manifest == alone.manifest and alone.manifest.left_out == 1
    for file in alone.folder.iterdir():
        assert (together.folder / file.name).read_bytes() == file.read_bytes()
