"""Coverage of a vocabulary: shares, and rows of a supplement, that are worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_curation.operators.balance._vocabulary import vocabulary
from data_curation.operators.balance.text_coverage import coverage
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import ConfigError
from tests.unit.data_curation.pipeline.builders import contents, lines_of, pipeline, write_jsonl


def wanted(folder: Path, *entries: str) -> str:
    (folder / "wanted.txt").write_text("\n".join(entries), encoding="utf-8")
    return str(folder / "wanted.txt")


def test_what_stands_in_a_text(tmp_path: Path) -> None:
    """Characters count as they are written, words whole and in either case, others wherever they stand."""
    listed = vocabulary(wanted(tmp_path, "A", "é", "7", "鑫", "Total", "e-mail", "sub", "银行", "ภาษา", "C++"))
    assert listed.of("a total, (E-mail) subtotal") == {"total", "e-mail"}
    assert listed.of("A café: 7 of C++98") == {"A", "é", "7", "c++"}
    assert listed.of("他在银行里, ฉันพูดภาษาไทย") == {"银行", "ภาษา"}
    assert listed.of("银 行 totals") == set()


def test_a_file_that_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: No such file"):
        vocabulary(str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="is empty"):
        vocabulary(wanted(tmp_path))
    (tmp_path / "old.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"old\.txt: byte 0 is no UTF-8"):
        vocabulary(str(tmp_path / "old.txt"))


def test_rates_by_hand() -> None:
    """Of four entries three stand somewhere, 3/4, and one in two rows, 1/4."""
    assert coverage(frozenset("abcd"), {"a": 5, "b": 1, "c": 1}, 2) == {
        "entries": 4,
        "covered": 3,
        "coverage": 0.75,
        "in 2 rows": 1,
        "coverage by 2 rows": 0.25,
        "short": [["d", 0], ["b", 1], ["c", 1]],
    }


CORPUS = ["total sum", "Total sum", "total", "鑫"]
OFFERED = {"s0": "sum", "s1": "龘 rare", "s2": "鑫 rare 龘", "s3": "total total", "s4": "rare 龘", "s5": "nothing"}


def rows() -> list[dict[str, Any]]:
    corpus = [{"id": f"c{n}", "source": "web", "document": text} for n, text in enumerate(CORPUS)]
    return corpus + [{"id": uid, "source": "drawn", "document": text} for uid, text in OFFERED.items()]


@pytest.mark.parametrize("turned", [False, True])
def test_a_supplement_fills_what_is_short_and_no_more(tmp_path: Path, turned: bool) -> None:
    """In two rows each: `total` (3) and `sum` (2) are there, 鑫 is one short, `rare`, 龘 and `void` two. s2 has three
    of these; s1 and s4 have two, and one of them is enough, drawn by its id; then nothing is left that could help."""
    args = {"wanted": wanted(tmp_path, "total", "sum", "rare", "void", "鑫", "龘"), "least": 2, "supplement": ["drawn"]}
    given = rows()[::-1] if turned else rows()
    source, operators = write_jsonl(tmp_path / "in.jsonl", given), [{"name": "text_coverage", "args": args}]
    run_pipeline(pipeline(source, tmp_path / "out", operators))
    left = lines_of(tmp_path / "out/rows")
    notes = {row["id"]: row.get("curation", {}).get("text_coverage") for row in left}
    assert set(notes) == {"c0", "c1", "c2", "c3", "s2", "s4"}
    assert notes["s2"] == {"for": ["rare", "鑫", "龘"]} and notes["s4"] == {"for": ["rare", "龘"]}
    assert {line["reason"] for line in lines_of(tmp_path / "out/dropped")} == {"not needed for coverage"}
    told = json.loads((tmp_path / "out/figures.json").read_text(encoding="utf-8"))["text_coverage"]
    assert [(line["vocabulary"], line["of"], line["coverage"], line["coverage by 2 rows"]) for line in told] == [
        ("characters", "the corpus", 0.5, 0.0),
        ("characters", "and its supplement", 1.0, 1.0),
        ("words", "the corpus", 0.5, 0.5),
        ("words", "and its supplement", 0.75, 0.75),
    ]
    assert [line["short"] for line in told] == [[["龘", 0], ["鑫", 1]], [], [["rare", 0], ["void", 0]], [["void", 0]]]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<td>龘 0, 鑫 1</td>" in page and "<td>rare 0, void 0</td>" in page
    run_pipeline(pipeline(source, tmp_path / "again", operators, shard_mib=1.0))
    assert lines_of(tmp_path / "again/rows") == left
    run_pipeline(pipeline(source, tmp_path / "third", operators))
    assert contents(tmp_path / "third") == contents(tmp_path / "out")


def test_without_a_supplement_it_only_reports(tmp_path: Path) -> None:
    args = {"wanted": wanted(tmp_path, "total", "rare", "void")}
    run_pipeline(
        pipeline(
            write_jsonl(tmp_path / "in.jsonl", rows()), tmp_path / "out", [{"name": "text_coverage", "args": args}]
        )
    )
    assert len(lines_of(tmp_path / "out/rows")) == 10 and not lines_of(tmp_path / "out/dropped")
    (line,) = json.loads((tmp_path / "out/figures.json").read_text())["text_coverage"]
    assert (line["coverage"], line["in 10 rows"], line["short"]) == (
        0.6667,
        0,
        [["void", 0], ["rare", 3], ["total", 4]],
    )


def test_a_supplement_that_no_row_is_of(tmp_path: Path) -> None:
    args = {"wanted": wanted(tmp_path, "total"), "supplement": ["drown"]}
    source = write_jsonl(tmp_path / "in.jsonl", rows())
    with pytest.raises(ConfigError, match=r"no row's source is one of \['drown'\]: name others"):
        run_pipeline(pipeline(source, tmp_path / "out", [{"name": "text_coverage", "args": args}]))
