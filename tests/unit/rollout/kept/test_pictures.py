"""The pictures that stored rows show: copied once by content, whole, and there for as long as the rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from rollout.kept import pictures
from rollout.schema import SCHEMA
from rollout.store import RolloutStore
from tests.unit.rollout.test_store import SAMPLING, group


@pytest.fixture
def media(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "a").mkdir(parents=True)
    Image.new("RGB", (28, 56), "red").save(root / "a" / "cat.png")
    Image.new("RGB", (28, 56), "blue").save(root / "dog.jpeg")
    (root / "same").write_bytes((root / "a" / "cat.png").read_bytes())
    return root


def picture(media: Path, path: str) -> Picture:
    sha256 = hashlib.sha256((media / path).read_bytes()).hexdigest()
    return Picture(path=path, sha256=sha256, grid=(1, 4, 2), patches=None)


def shown(uid: str, media: Path, *paths: str):
    drawn = group(uid, [1.0, 0.0])
    drawn.pictures = tuple(picture(media, path) for path in paths)
    return drawn


def test_rows_name_copies_that_are_the_originals(tmp_path: Path, media: Path) -> None:
    """Three names, two contents: two files, with the suffix of what they hold."""
    runs = RolloutStore(tmp_path / "run", media)
    runs.append(1, [shown("p", media, "a/cat.png", "dog.jpeg"), shown("q", media, "same")], SAMPLING)
    cat, dog = picture(media, "a/cat.png").sha256, picture(media, "dog.jpeg").sha256
    assert [row["images"] for row in runs.read().to_table(["images"]).to_pylist()] == [
        [
            {"path": f"images/{cat}.png", "sha256": cat, "original": "a/cat.png"},
            {"path": f"images/{dog}.jpg", "sha256": dog, "original": "dog.jpeg"},
        ]
    ] * 2 + [[{"path": f"images/{cat}.png", "sha256": cat, "original": "same"}]] * 2
    copies = {path.name: path.read_bytes() for path in (runs.directory / "images").iterdir()}
    assert copies == {
        f"{cat}.png": (media / "a" / "cat.png").read_bytes(),
        f"{dog}.jpg": (media / "dog.jpeg").read_bytes(),
    }


def test_a_picture_is_copied_once_also_by_a_resumed_run(tmp_path: Path, media: Path) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    runs.append(1, [shown("p", media, "a/cat.png")], SAMPLING)
    [copy] = (runs.directory / "images").iterdir()
    before = copy.stat().st_mtime_ns
    again = RolloutStore(tmp_path / "run", media)
    again.append(2, [shown("p", media, "a/cat.png", "same")], SAMPLING)
    assert copy.stat().st_mtime_ns == before


def test_resuming_keeps_pictures_and_drops_half_copied_ones(tmp_path: Path, media: Path) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    runs.append(1, [shown("p", media, "a/cat.png")], SAMPLING)
    runs.append(2, [shown("q", media, "dog.jpeg")], SAMPLING)
    half = runs.directory / "images" / "00ff.tmp"
    half.write_bytes(b"\x89PNG")
    resumed = RolloutStore(tmp_path / "run", media)
    assert resumed.truncate_after(1) == [half, runs.directory / "step_000002.parquet"]
    [row, _] = resumed.read().to_table().to_pylist()
    assert (resumed.directory / row["images"][0]["path"]).read_bytes() == (media / "a" / "cat.png").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "picture 'a/cat.png': No such file or directory in .*media, and .* put it back"),
        (lambda path: path.write_bytes(b"another"), "picture 'a/cat.png' in .*media has changed .* sha256 was"),
    ],
    ids=["gone", "changed"],
)
def test_an_original_that_is_gone_ends_in_one_line_and_no_shard(tmp_path: Path, media: Path, spoil, reason) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    runs.append(1, [shown("p", media, "dog.jpeg")], SAMPLING)
    drawn = shown("q", media, "a/cat.png")
    spoil(media / "a" / "cat.png")
    with pytest.raises(DataError, match=reason) as caught:
        runs.append(2, [drawn], SAMPLING)
    assert "\n" not in str(caught.value)
    assert runs.steps() == [1]


def test_a_kill_in_mid_copy_leaves_no_file_that_claims_to_be_whole(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    with monkeypatch.context() as patched:
        patched.setattr(pictures.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(OSError, match="disk full"):
            runs.append(1, [shown("p", media, "a/cat.png")], SAMPLING)
    assert [path.suffix for path in (runs.directory / "images").iterdir()] == [".tmp"]
    again = RolloutStore(tmp_path / "run", media)
    again.append(1, [shown("p", media, "a/cat.png")], SAMPLING)
    assert [path.suffix for path in (runs.directory / "images").iterdir()] == [".png"]


def test_pandas_and_datasets_find_the_pictures(tmp_path: Path, media: Path) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    path = runs.append(1, [shown("p", media, "a/cat.png")], SAMPLING)
    first = pandas.read_parquet(path)["images"][0][0]["path"]
    with Image.open(runs.directory / first) as image:
        assert image.size == (28, 56)
    shards = str(runs.directory / "*.parquet")
    rows = load_dataset("parquet", data_files=shards, cache_dir=str(tmp_path / "hf"))["train"]
    assert [entry["path"] for entry in rows[0]["images"]] == [first]


def test_shards_of_the_schema_without_pictures_are_still_read(tmp_path: Path, media: Path) -> None:
    """A run that began before pictures were kept and goes on: both kinds of shard lie in one folder."""
    runs = RolloutStore(tmp_path / "run", media)
    image = pa.struct([pa.field("path", pa.string(), nullable=False), pa.field("sha256", pa.string())])
    place = SCHEMA.get_field_index("images")
    old = SCHEMA.set(place, pa.field("images", pa.list_(image), nullable=False))
    rows = runs.append(1, [shown("p", media, "dog.jpeg")], SAMPLING)
    table = pq.read_table(rows).to_pylist()
    for row in table:
        row["images"] = [{"path": "dog.jpeg", "sha256": None}]
    old = old.with_metadata({"pangu_rl.rollouts": "1"})
    pq.write_table(pa.Table.from_pylist(table, schema=old), rows)
    runs.append(2, [shown("q", media, "a/cat.png")], SAMPLING)
    read = runs.read().to_table().to_pylist()
    assert read[0]["images"] == [{"path": "dog.jpeg", "sha256": None, "original": None}]
    assert read[2]["images"][0]["original"] == "a/cat.png"


def test_a_picture_of_the_same_name_and_other_content_is_another(tmp_path: Path, media: Path) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    first = runs._pictures.keep(picture(media, "dog.jpeg"))
    Image.new("RGB", (28, 56), "green").save(media / "dog.jpeg")
    assert runs._pictures.keep(picture(media, "dog.jpeg")) != first
    assert runs._pictures.keep(replace(picture(media, "dog.jpeg"), path="gone")) == runs._pictures.keep(
        picture(media, "dog.jpeg")
    )
