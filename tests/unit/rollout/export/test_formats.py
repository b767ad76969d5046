"""Every format, loaded back by those it is for; the same bytes on a second run; nothing that ties it to a machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import datasets
import duckdb
import pandas
import polars
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from pangu_rl.data.conversations import load_conversations
from pangu_rl.data.pairs import load_pairs
from pangu_rl.data.prompts import load_prompts
from pangu_rl.errors import DataError
from pretrain.processing.media_root import open_inside
from rollout.compact import compact
from rollout.export import formats
from tests.unit.rollout.export.conftest import STEPS
from tests.unit.rollout.export.exporting import contents, exported, manifest_of, rows_of
from tests.unit.rollout.stored import Answer, Asked, store_of

TARGETS = ("raw", "sft", "pairs", "prompts", "iterative")
FORMATS = ("parquet", "jsonl", "sharegpt", "hf")
ROWS = {"raw": 10, "sft": 4, "pairs": 2, "prompts": 3, "iterative": 1}


@pytest.fixture(scope="module")
def exports(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All targets in all formats, each in `<target>-<format>`."""
    folder = tmp_path_factory.mktemp("exports")
    for target in TARGETS:
        for form in FORMATS:
            exported(run, folder / f"{target}-{form}", to=target, format=form)
    return folder


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_format_of_every_target_is_read_by_its_readers(
    exports: Path, tmp_path: Path, target: str, form: str
) -> None:
    folder = exports / f"{target}-{form}"
    count = ROWS[target]
    [file] = (folder / "data").iterdir()
    if file.suffix == ".parquet":
        assert len(pandas.read_parquet(file)) == count
        assert polars.read_parquet(file).height == count
        assert duckdb.sql(f"SELECT count(*) FROM '{file}'").fetchall() == [(count,)]
        loaded = datasets.load_dataset(str(folder / "data"), split="train", cache_dir=str(tmp_path))
    else:
        assert len(pandas.read_json(file, lines=True)) == count
        assert polars.read_ndjson(file).height == count
        loaded = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert len(loaded) == count
    manifest = manifest_of(folder)
    assert (manifest["rows"], manifest["to"], manifest["format"]) == (count, target, form)
    assert manifest["files"][f"data/{file.name}"]["rows"] == count


def test_formats_agree_on_the_rows(exports: Path) -> None:
    for target in ("sft", "pairs"):
        assert rows_of(exports / f"{target}-jsonl") == rows_of(exports / f"{target}-parquet")
    shown = rows_of(exports / "sft-hf")
    for row, plain in zip(shown, rows_of(exports / "sft-parquet"), strict=True):
        assert [image["path"] for image in row.pop("images")] == plain.pop("images")
        assert row == plain


def test_a_hugging_face_folder_shows_its_pictures(exports: Path, media: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(exports / "sft-hf"), split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded.features["images"].feature, datasets.Image)
    [picture] = loaded[1]["images"]
    assert (picture.size, picture.getpixel((0, 0))) == ((56, 56), (255, 0, 0))
    [file] = (exports / "sft-hf" / "images").iterdir()
    assert file.read_bytes() == (media / "red.png").read_bytes()
    header = (exports / "sft-hf" / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(header)["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]


def test_equal_pictures_of_a_row_group_are_stored_once(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    Image.effect_noise((256, 256), 90).convert("RGB").save(media / "noise.png")
    size = (media / "noise.png").stat().st_size
    asked = Asked(uid="a", images=("noise.png",), answers=[Answer(text=f"answer {n}") for n in range(16)])
    store_of(tmp_path / "run", {1: [asked]}, media)
    assert len(exported(tmp_path / "run", tmp_path / "out", to="sft", format="hf")) == 16
    assert (tmp_path / "out" / "data" / "train-00000.parquet").stat().st_size < 1.5 * size


@pytest.mark.parametrize("form", ["parquet", "jsonl", "hf"])
def test_our_own_stages_read_what_is_for_them(exports: Path, form: str) -> None:
    def data(target: str) -> Path:
        folder = exports / f"{target}-{form}" / "data"
        return folder / "train-00000.jsonl" if form == "jsonl" else folder

    conversations = load_conversations(data("sft")).records
    assert [row.uid for row in conversations][1] == "first/1/0:colour/0"
    with open_inside(conversations[1].images[0], exports / f"sft-{form}") as picture:  # of hf within the row
        assert hashlib.sha256(picture.read()).hexdigest() in conversations[1].images[0]
    pairs = load_pairs(data("pairs")).records
    assert (pairs[0].chosen, pairs[0].rejected) == ("so \\boxed{2}", "so \\boxed{3}")
    prompts = load_prompts(data("prompts")).records
    assert [(prompt.uid, prompt.answer) for prompt in prompts] == [("1+1", "2"), ("colour", "red"), ("2+2", "4")]
    assert (prompts[1].extra["pass_rate"], prompts[1].extra["choices"]) == (0.5, ["red", "blue"])
    assert len(prompts[1].images) == 1


def test_sharegpt_marks_the_place_of_pictures_and_names_the_speakers(exports: Path) -> None:
    sft, pairs = (rows_of(exports / f"{target}-sharegpt") for target in ("sft", "pairs"))
    assert sft[1]["conversations"] == [
        {"from": "system", "value": "Put the answer in a box."},
        {"from": "human", "value": "<image>Which colour is it?"},
        {"from": "gpt", "value": "It is \\boxed{red}"},
    ]
    assert pairs[0]["conversations"] == [{"from": "human", "value": "What is 1+1?"}]
    assert (pairs[0]["chosen"], pairs[0]["rejected"]) == (
        {"from": "gpt", "value": "so \\boxed{2}"},
        {"from": "gpt", "value": "so \\boxed{3}"},
    )


def test_a_marker_in_a_text_is_no_picture(tmp_path: Path) -> None:
    store_of(tmp_path / "run", {1: [Asked(uid="a", answers=[Answer(text="the tag <image> in HTML")])]})
    with pytest.raises(DataError, match=r"row run/1/0:a/0: its text holds <image>, .*choose another --format"):
        exported(tmp_path / "run", tmp_path / "out", to="sft", format="sharegpt")
    assert len(exported(tmp_path / "run", tmp_path / "out", to="sft")) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_second_export_has_the_same_bytes_also_of_a_compacted_copy_elsewhere(
    exports: Path, media: Path, tmp_path: Path, target: str
) -> None:
    copy = tmp_path / "elsewhere" / "first"
    store_of(copy, STEPS, media)
    compact(copy)
    for form in FORMATS:
        exported(copy, tmp_path / form, to=target, format=form)
        assert contents(tmp_path / form) == contents(exports / f"{target}-{form}")


def test_no_file_holds_a_path_of_this_machine(exports: Path, run: Path, media: Path) -> None:
    for name, content in contents(exports).items():
        for path in (exports, run.parent, media):
            assert str(path).encode() not in content, name


def test_large_exports_are_several_files_of_one_schema(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exported(run, tmp_path / "whole", to="sft")
    monkeypatch.setattr(formats, "FILE_BYTES", 1)
    monkeypatch.setattr(formats, "GROUP_ROWS", 1)
    for form in ("parquet", "jsonl"):
        assert exported(run, tmp_path / form, to="sft", format=form) == whole
        assert len(list((tmp_path / form / "data").iterdir())) > 1
    schemas = [pq.read_schema(path) for path in (tmp_path / "parquet" / "data").iterdir()]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert len(load_conversations(tmp_path / "parquet" / "data").records) == 4


def test_the_manifest_has_the_hash_of_every_file(exports: Path) -> None:
    for folder in exports.iterdir():
        files = manifest_of(folder)["files"]
        there = {name for name in contents(folder) if not name.startswith("images/")} - {"manifest.json"}
        assert set(files) == there
        for name, facts in files.items():
            assert facts["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for picture in folder.glob("images/*"):
            assert picture.stem == hashlib.sha256(picture.read_bytes()).hexdigest()


def test_hostile_text_passes_unchanged(tmp_path: Path) -> None:
    text = "<script>alert(1)</script>\u202e \U0001f600 ' \" | \\n\u2028 \\boxed{2}"
    store_of(tmp_path / "run", {1: [Asked(uid="'; DROP--", answers=[Answer(text=text)], source="a'b")]})
    for form in FORMATS:
        rows = exported(tmp_path / "run", tmp_path / form, to="sft", format=form)
        assert text in _texts(rows)
    for line in (tmp_path / "jsonl" / "data" / "train-00000.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in _texts(item)]
