"""The mini-corpus of PyPI packages alone, at a small scale: as on a machine without apt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_curation.corpus.build import build, prepare
from data_curation.corpus.families import FAMILIES
from data_curation.corpus.materials import DEBIAN, gather
from data_curation.schema import BOX_TYPES, CATEGORIES
from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.data.conversations import load_conversations
from pangu_rl.data.prompts import load_prompts
from pretrain.packing.metadata import read_metadata
from rewards.score_file import score_file

SPLITS = ("sft", "train", "heldout")
SCALE = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("data") / "corpus", scale=SCALE, with_debian=False, workers=1)


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def every_row(folder: Path) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in rows(folder, split)]


def response(row: dict[str, Any]) -> str:
    return row.get("response") or row["messages"][-1]["content"]


def test_every_category_is_there_in_both_languages(folder: Path) -> None:
    assert {row["source"] for row in rows(folder, "sft")} == set(CATEGORIES)
    counts = Counter(row["language"] for row in every_row(folder))
    assert set(counts) == {"en", "zh"} and min(counts.values()) > 0.1 * counts.total()


def test_every_row_loads_as_it_stands_and_its_pictures_are_there(folder: Path) -> None:
    assert len(load_conversations(folder / "sft.jsonl").records) == len(rows(folder, "sft"))
    for split in ("train", "heldout", "heldout_blank"):
        assert len(load_prompts(folder / f"{split}.jsonl").records) == len(rows(folder, split)) > 0
    for row in every_row(folder):
        for path in row["images"]:
            with Image.open(folder / path) as image:
                width, height = image.size
            assert min(width, height) >= 16 and max(width, height) <= 20 * min(width, height), row["id"]


def test_no_two_splits_share_a_source_item(folder: Path) -> None:
    items = {split: {item for row in rows(folder, split) for item in row["items"]} for split in SPLITS}
    assert all(items.values())
    for one, other in (("sft", "train"), ("sft", "heldout"), ("train", "heldout")):
        assert not items[one] & items[other]


def test_every_gold_is_graded_correct_by_the_command(folder: Path, tmp_path: Path) -> None:
    graded = [row for row in every_row(folder) if "answer" in row]
    kept = ("answer_type", "choices", "coordinates")
    lines = [
        {"prediction": response(row), "gold": row["answer"]} | {key: row[key] for key in kept if key in row}
        for row in graded
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    score_file(source, target, workers=1)
    outcomes = Counter(json.loads(line)["outcome"] for line in target.read_text(encoding="utf-8").splitlines())
    assert outcomes == {"correct": len(graded)}
    assert {row["answer_type"] for row in graded} >= {"integer", "text", "choice", "list", *BOX_TYPES}


def test_only_captions_and_transcripts_for_sft_have_no_gold(folder: Path) -> None:
    free = [row for row in every_row(folder) if "answer" not in row]
    assert {row["source"] for row in free} <= {"caption", "table"}
    assert not {row["id"] for row in free} & {row["id"] for split in SPLITS[1:] for row in rows(folder, split)}


def test_the_blank_twin_differs_in_its_pictures_alone(folder: Path) -> None:
    heldout, blank = rows(folder, "heldout"), rows(folder, "heldout_blank")
    assert [row | {"images": []} for row in blank] == [row | {"images": []} for row in heldout]
    for row, twin in zip(heldout, blank, strict=True):
        for shown, hidden in zip(row["images"], twin["images"], strict=True):
            with Image.open(folder / shown) as image, Image.open(folder / hidden) as empty:
                assert empty.size == image.size and len(empty.getcolors()) == 1


def test_the_shuffled_twin_has_the_frames_of_its_videos_in_another_order(folder: Path) -> None:
    """Which of four frames was filmed last asks about frames out of order already, and has no twin."""
    heldout = [row for row in rows(folder, "heldout") if row["source"] == "video" and len(row["images"]) == 8]
    shuffled = rows(folder, "heldout_shuffled")
    assert [row | {"images": []} for row in shuffled] == [row | {"images": []} for row in heldout] != []
    for row, twin in zip(heldout, shuffled, strict=True):
        assert sorted(twin["images"]) == sorted(row["images"]) and twin["images"] != row["images"]


def test_the_metadata_is_what_packing_reads(folder: Path) -> None:
    sft = rows(folder, "sft")
    table = pq.read_table(folder / "metadata.parquet").to_pylist()
    assert [line["id"] for line in table] == [row["id"] for row in sft]
    for line, row in zip(table, sft, strict=True):
        sizes = []
        for path in row["images"]:
            with Image.open(folder / path) as image:
                sizes.append(image.size)
        assert list(zip(line["width"], line["height"], strict=True)) == sizes
    metadata = read_metadata(folder / "metadata.parquet", PackingConfig(context=8192, ranks=1))
    assert metadata.tokens.min() > 8 and set(metadata.sources) == set(CATEGORIES)


def test_tokens_of_text_are_those_of_the_conversation_without_its_pictures(folder: Path) -> None:
    """The miniature's tokenizer writes three tokens for a picture that packing counts by itself."""
    from pangu_rl.config.paths import resolve_path
    from pangu_rl.data.chat_template import ChatTemplate

    template = ChatTemplate(resolve_path("cache://models/tiny-pangu-vl"))
    vision = set(template.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]))
    table = {line["id"]: line["text_tokens"] for line in pq.read_table(folder / "metadata.parquet").to_pylist()}
    for row in rows(folder, "sft")[::7]:
        ids, _ = template.encode_conversation(row["messages"])
        assert table[row["id"]] == sum(token not in vision for token in ids)


def test_the_report_counts_the_rows_and_names_what_is_missing(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["rows"] == {split: len(rows(folder, split)) for split in SPLITS}
    assert set(report["missing"]) == set(DEBIAN)
    assert report["families"]["maps"] == {"sft": 0, "train": 0, "heldout": 0} != report["families"]["counting"]
    assert sum(sum(counts.values()) for counts in report["categories"].values()) == len(every_row(folder))
    assert "held-out benchmark" in report["note"]
    for name in ("sheet.png", "report.png"):
        with Image.open(folder / name) as image:
            assert image.width > 500


def test_the_same_bytes_again_on_two_processes(folder: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", scale=SCALE, with_debian=False, workers=2)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [path for path in files if (folder / path).read_bytes() != (again / path).read_bytes()] == []


def test_a_corpus_of_another_version_is_kept_with_a_word(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(folder) == folder
    assert "another version" not in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    assert prepare(tmp_path) == tmp_path
    assert "was made by another version of the corpus" in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_build_leaves_nothing_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("data_curation.corpus.build.write_report", fail)
    monkeypatch.setattr("data_curation.corpus.build.FAMILIES", {"sums": FAMILIES["sums"]})
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "corpus", scale=0.1, with_debian=False, workers=1)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.slow
def test_the_whole_corpus_with_the_packages_of_debian(tmp_path: Path) -> None:
    """Every gold, thousands of samples, hundreds of sizes; where a package cannot be fetched the report says so."""
    built = build(tmp_path / "corpus")
    report = json.loads((built / "report.json").read_text(encoding="utf-8"))
    assert report["missing"] == {}, "this proof needs apt"
    assert sum(report["rows"].values()) > 8000
    assert report["pictures"]["distinct_sizes"] > 500
    assert set(report["packages"]) > set(gather().folders) & set(DEBIAN)
    assert all(min(counts.values()) >= 20 for counts in report["categories"].values())
