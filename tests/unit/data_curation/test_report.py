"""The page of a run: what it tells, and that nothing in a row can act on whoever opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_curation.pipeline.run import run_pipeline
from data_curation.report.page import histogram
from data_curation.report.samples import read_samples
from pangu_rl.errors import RunError
from pangu_rl.pages.shown_text import shown
from tests.unit.data_curation.operators.pictures import saved, scene
from tests.unit.data_curation.pipeline.builders import own, pipeline, write_jsonl


def test_the_page_shows_counts_reasons_pictures_and_pairs_and_nothing_in_it_acts(tmp_path: Path) -> None:
    saved(tmp_path, "a.png", scene(1))
    label = "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(012,034),(250,999)<|box_end|>"
    text = "<script>alert(1)</script> " + " ".join(f"word{n}" for n in range(60))
    rows = [
        {"id": "first", "document": [{"type": "image"}, f"{text} {label}"], "images": ["a.png"]},
        {"id": "second", "document": [{"type": "image"}, f"{text} {label}"], "images": ["a.png"]},
        {"id": "short\u202e", "document": "no"},
        {"id": "gone", "document": [{"type": "image"}, text + text], "images": ["b.png"]},
    ]
    operators = [{"name": "text_length", "args": {"least": 5}}, "decodable_pictures", "near_duplicate_texts"]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    run_pipeline(pipeline(source, tmp_path / "out", operators, media_root=str(tmp_path)))
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "default-src &#39;none&#39;" not in page and "default-src 'none'" in page
    assert page.count("&lt;script&gt;") >= 3 and "short[U+202E]" in page and "\u202e" not in page
    assert page.count('src="data:image/jpeg;base64,') >= 3
    for told in ("1 too short", "1 missing picture", "1 near duplicate", "like first", "rows read", "b.png"):
        assert told in page


def test_a_run_that_ends_early_says_so(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "n": -1}])
    with pytest.raises(RunError):
        run_pipeline(pipeline(source, tmp_path / "out", [own("no_odd")]))
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Ended before its end: 1 of 1 rows ended in an error" in page and "1 DataError" in page


def test_bars_and_signs() -> None:
    """0, 0, 0, 1 in 24 bins: three in the first and one in the last, of 100 and a third of it."""
    chart = histogram([0.0, 0.0, 1.0, 0.0])
    assert chart["bars"][0] == 100 and chart["bars"][-1] == pytest.approx(100 / 3) and sum(chart["bars"][1:-1]) == 0
    assert shown("a\u202eb\x00\n") == "a[U+202E]b[U+0000]\n"


def test_operators_of_late_stages_have_their_rows_beside_an_early_one_that_drops_many(tmp_path: Path) -> None:
    """60,000 lines of the first stage, in two files, are more than are read; the second stage has one."""
    line = {"id": "a", "place": "", "operator": "early", "kind": "drop", "reason": "many", "detail": "", "row": {}}
    (tmp_path / "dropped").mkdir()
    for number in range(2):
        write_jsonl(tmp_path / f"dropped/00-{number:05d}.jsonl", [line] * 30_000)
    write_jsonl(tmp_path / "dropped/01-00000.jsonl", [line | {"operator": "late", "reason": "one", "detail": "like b"}])
    (tmp_path / "rows").mkdir()
    write_jsonl(tmp_path / "rows/00000.jsonl", [{"id": "b"}])
    samples = read_samples(tmp_path)
    assert {name: {reason: len(lines) for reason, lines in found.items()} for name, found in samples.aside.items()} == {
        "early": {"many": 3},
        "late": {"one": 1},
    }
    assert [(one["operator"], other["id"]) for one, other in samples.pairs] == [("late", "b")]
