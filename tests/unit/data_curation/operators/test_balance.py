"""Balance: quotas, factors and clusters give the counts that are worked out by hand, the same whatever the order."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_curation.operators.balance._vocabulary import vocabulary
from data_curation.operators.balance.cluster_sampling import shares, variances
from data_curation.operators.balance.label_shares import label_shares
from data_curation.operators.balance.taxonomy import taxonomy
from data_curation.operators.balance.training_accuracy import gap
from data_curation.operators.duplicates.near_duplicate_embeddings import duplicates
from data_curation.pipeline.record import Drop, Record, Repeat
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import ConfigError, DataError
from tests.unit.data_curation.pipeline.builders import lines_of, pipeline, write_jsonl


def kept(folder: Path, rows: list[dict[str, Any]], *operators: dict[str, Any]) -> list[dict[str, Any]]:
    source = write_jsonl(folder / "in.jsonl", rows)
    output = folder / f"out{len(list(folder.iterdir()))}"
    run_pipeline(pipeline(source, output, list(operators)))
    return lines_of(output / "rows")


def test_quotas_by_domain(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "source": "abc"[n % 3]} for n in range(60)]
    quota = {"name": "quotas", "args": {"most": {"a": 5, "b": 100}, "others": 7}}
    some = kept(tmp_path, rows, quota)
    assert Counter(row["source"] for row in some) == {"a": 5, "b": 20, "c": 7}
    again = kept(tmp_path, rows[::-1], quota)
    assert {row["id"] for row in again} == {row["id"] for row in some}
    other = kept(tmp_path, rows, quota | {"args": quota["args"] | {"seed": 1}})
    assert {row["id"] for row in other} != {row["id"] for row in some}


def test_factors_of_labels() -> None:
    """Of 4,000 rows a factor of 0.25 keeps 1,000 give or take 110 (four standard deviations of 27)."""
    records = [Record({"id": str(n), "source": "x"}, str(n), "") for n in range(4000)]
    verdicts = [label_shares(record, by="source", factors={"x": 0.25}) for record in records]
    assert abs(sum(verdict is None for verdict in verdicts) - 1000) < 110
    assert isinstance(verdicts[0], Drop | None)
    times = [label_shares(record, by="source", factors={"x": 2.5}).times for record in records]
    assert set(times) == {2, 3} and abs(times.count(3) - 2000) < 130
    assert label_shares(records[0], by="source", factors={"x": 3}) == Repeat(3)
    assert label_shares(records[0], by="none.such", factors={"": 1.0}) is None


def test_categories_by_their_words() -> None:
    categories = {"science": ["physic*", "atom", "电路"], "travel": ["beach", "hotel"]}

    def label(text: str) -> str:
        return taxonomy(Record({"document": text}, "d", ""), categories=categories).notes["label"]

    assert label("The atom in physics") == "science"
    assert label("A hotel at the beach, and an atom") == "travel"
    assert label("anatomy of a beach") == "other"
    assert label("电路和电路") == "science"


def test_variances_and_shares_by_hand() -> None:
    """Unit vectors (1,0) and (0,1) have the mean (1/2,1/2): variance 1 - 1/2. Equal ones have none. Of 8 rows shares
    of 3 : 1 are 6 and 2, and a cluster of 4 rows gives 2 of its 6 on."""
    points = np.array([[2, 0], [0, 5], [3, 3], [1, 1]], np.float32)
    variance, sizes = variances(points, np.array([0, 0, 1, 1]))
    assert variance == pytest.approx([0.5, 0]) and sizes.tolist() == [2, 2]
    assert shares(np.array([0.3, 0.1]), np.array([50, 50]), 10).sum() == 10
    assert shares(np.array([0.3, 0.1]), np.array([50, 50]), 8).tolist() == [6, 2]
    assert shares(np.array([0.3, 0.1]), np.array([4, 50]), 8).tolist() == [4, 4]
    assert shares(np.array([0.3, 0.1]), np.array([4, 2]), 100).tolist() == [4, 2]


def test_clusters_of_more_variance_keep_more_rows(tmp_path: Path) -> None:
    """Two tight bundles of 40 and one that is spread, 40 too: of 30 rows nearly all are of the spread one."""
    draw = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat(np.arange(3), 40)]
    noise = draw.normal(0, np.repeat([0.01, 0.01, 0.4], 40)[:, None], (120, 3))
    rows = [
        {"id": f"r{n}", "curation": {"picture_embeddings": {"embedding": vector.round(4).tolist()}}}
        for n, vector in enumerate(centres + noise)
    ]
    rows.append({"id": "none"})
    sampling = {"name": "cluster_sampling", "args": {"keep": 30, "clusters": 3, "again": 2}}
    some = kept(tmp_path, rows, sampling)
    assert len(some) == 31 and some[-1]["id"] == "none"
    spread = sum(row["id"] != "none" and int(row["id"][1:]) >= 80 for row in some)
    assert spread >= 20  # by size alone it were ten
    assert kept(tmp_path, rows, sampling) == some


def test_embeddings_that_are_none(tmp_path: Path) -> None:
    """Zeros have no direction and are sampled as any other; what is not finite is its row's error; of two lengths no
    clusters can be found."""
    points = [[1, 0], [0, 1], [0, 0], ["nan", 0], [0, 1e39], []]
    rows = [
        {"id": f"r{n}", "curation": {"picture_embeddings": {"embedding": [float(value) for value in point]}}}
        for n, point in enumerate(points)
    ]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    sampling = {"name": "cluster_sampling", "args": {"keep": 2, "clusters": 1}}
    assert run_pipeline(pipeline(source, tmp_path / "out", [sampling], max_error_rate=0.5)).rows == 2
    errors = {line["id"]: line["detail"] for line in lines_of(tmp_path / "out/dropped") if line["kind"] == "error"}
    assert errors == {
        "r3": "curation.picture_embeddings.embedding[0] is no finite number of 32 bits",
        "r4": "curation.picture_embeddings.embedding[1] is no finite number of 32 bits",
        "r5": "curation.picture_embeddings.embedding is no list of numbers",
    }
    assert variances(np.array([[3, 0], [0, 0]], np.float32), np.array([0, 0]))[0] == pytest.approx([0.75])
    rows[1]["curation"]["picture_embeddings"]["embedding"] = [0, 1, 2]
    write_jsonl(source, rows)
    with pytest.raises(DataError, match="embeddings have 2 numbers, and one has 3: one encoder gives all"):
        run_pipeline(pipeline(source, tmp_path / "out", [sampling], max_error_rate=0.5))


def test_pictures_that_an_encoder_takes_for_the_same(tmp_path: Path) -> None:
    """At 0.97, 14 degrees: of points on a circle at 0, 10, 20 and 90 degrees the second is like the first; the third,
    20 from the first, is like the second alone, which is gone, and stays."""
    angles = np.deg2rad([0, 10, 20, 90, 91])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [5], [1], [2], [1]])
    found = [(at, first) for at, first, _ in duplicates(points, 0.97)]
    assert found == [(1, 0), (4, 3)]
    many = np.random.default_rng(0).normal(size=(2000, 8))
    cosines = (unit := many / np.linalg.norm(many, axis=1, keepdims=True)) @ unit.T
    kept: list[int] = []
    for at in range(len(many)):  # one by one, as it is meant
        if not kept or cosines[at, kept].max() < 0.9:
            kept.append(at)
    gone = {at for at, _, _ in duplicates(many, 0.9)}
    assert sorted(set(range(2000)) - gone) == kept and len(gone) > 100
    notes = [{"curation": {"picture_embeddings": {"embedding": point.tolist()}}} for point in points]
    rows = [{"id": f"r{n}"} | note for n, note in enumerate(notes)]
    source = write_jsonl(tmp_path / "in.jsonl", [*rows, {"id": "none"}])
    for clusters in (1, 2):
        name = {"name": "near_duplicate_embeddings", "args": {"clusters": clusters}}
        run_pipeline(pipeline(source, tmp_path / f"out{clusters}", [name]))
        assert [row["id"] for row in lines_of(tmp_path / f"out{clusters}/rows")] == ["r0", "r2", "r3", "none"]
    assert {line["detail"] for line in lines_of(tmp_path / "out1/dropped")} == {"like r0", "like r3"}


def test_rows_with_rare_words_come_more_often(tmp_path: Path) -> None:
    """`common` stands in six rows, `rare` in two, 鑫 in one: with 4 wanted, the rows of `rare` come twice, that of 鑫
    three times, since no more are allowed."""
    texts = ["common rare", "Common RARE", "common", "common", "common 鑫", "common"]
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": f"r{n}", "document": text} for n, text in enumerate(texts)])
    args = {"least": 4, "most_times": 3}
    summary = run_pipeline(pipeline(source, tmp_path / "out", [{"name": "rare_text", "args": args}]))
    assert sorted(summary.tallies[1].values["rows with the rarest word"]) == [1, 2, 2, 6, 6, 6]
    times = Counter(row["id"].partition("#")[0] for row in lines_of(tmp_path / "out/rows"))
    assert times == {"r0": 2, "r1": 2, "r2": 1, "r3": 1, "r4": 3, "r5": 1}
    (tmp_path / "wanted.txt").write_text("Common 鑫\n", encoding="utf-8")
    args["wanted"] = str(tmp_path / "wanted.txt")
    run_pipeline(pipeline(source, tmp_path / "wanted", [{"name": "rare_text", "args": args}]))
    assert len(lines_of(tmp_path / "wanted/rows")) == 8


def test_rare_are_what_a_file_names_whatever_it_is_made_of(tmp_path: Path) -> None:
    """With 2 rows wanted: of words of several characters, with signs, and of digits `C++` and `2024` stand in two rows,
    银行 and `e-mail` in one each. Words that are not wanted, as `once`, count for nothing."""
    texts = ["他在银行里", "C++ in 2024", "since 2024, C++17", "an e-mail, once"]
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": f"r{n}", "document": text} for n, text in enumerate(texts)])
    (tmp_path / "wanted.txt").write_text("银行 C++ e-mail 2024", encoding="utf-8")
    rare = {"name": "rare_text", "args": {"least": 2, "wanted": str(tmp_path / "wanted.txt")}}
    run_pipeline(pipeline(source, tmp_path / "out", [rare]))
    assert [row["id"] for row in lines_of(tmp_path / "out/rows")] == ["r0", "r0#2", "r1", "r2", "r3", "r3#2"]
    (tmp_path / "wanted.txt").write_bytes(b"\xff\xfe")
    vocabulary.cache_clear()  # a process reads it once
    with pytest.raises(ConfigError, match=r"wanted\.txt: byte 0 is no UTF-8"):
        run_pipeline(pipeline(source, tmp_path / "other", [rare]))


def test_accuracy_on_trained_rows_against_held_out_ones(tmp_path: Path) -> None:
    """Of 100 rows on each side 90 and 60 are right: 0.3 apart, with an error of sqrt(0.09 / 100 + 0.24 / 100) = 0.0574.
    Of 4 on each side 4 and 3 are: 0.25 apart, and the error is sqrt(0 + 0.1875 / 4) = 0.2165, so they are level."""

    def rows(source: str, trained: bool, right: int, of: int) -> list[dict]:
        return [{"source": source, "trained": trained, "score": float(n < right)} for n in range(of)]

    made = [*rows("maths", True, 90, 100), *rows("maths", False, 60, 100), *rows("ocr", True, 4, 4)]
    made += [*rows("ocr", False, 3, 4), *rows("chat", True, 1, 2), {"source": "maths"}]
    source = write_jsonl(tmp_path / "in.jsonl", made)
    run_pipeline(pipeline(source, tmp_path / "out", [{"name": "training_accuracy"}]))
    kept = lines_of(tmp_path / "out/rows")
    notes = {row["source"]: row["curation"]["training_accuracy"] for row in kept if "curation" in row}
    numbers = {"trained": 0.9, "control": 0.6, "difference": 0.3, "error": 0.0574}
    assert notes["maths"] == {"label": "memorised", **numbers}
    assert (notes["ocr"]["label"], notes["ocr"]["error"]) == ("level", 0.2165) and notes["chat"] == {
        "label": "one side"
    }
    assert "curation" not in next(row for row in kept if "score" not in row)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    told = [re.findall(r"<td>([^<]*)</td>", line) for line in page.splitlines() if line.startswith("<tr><td>maths")]
    assert told == [["maths", "100", "100", "memorised", "0.9", "0.6", "0.3", "0.0574"]]
    assert "<tr><td>chat</td><td>2</td><td>0</td><td>one side</td><td>-</td>" in page
    assert gap((0.2, 50, 0.1), (0.9, 50, 0.1), 0.1, 2.0)["label"] == "not learnt"
