"""A pipeline of operators: nothing is lost, errors are counted, equal runs are equal to the byte, also after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from data_curation.operators.documents.pdf_pages import pdf_pages
from data_curation.operators.text.held_out import _for_questions
from data_curation.operators.video.video_clips import video_clips
from data_curation.pipeline import guarded
from data_curation.pipeline.operator import declared, named_content
from data_curation.pipeline.record import Record
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import ConfigError, DataError, RunError
from tests.contracts.source_tree import ROOT
from tests.unit.data_curation.pipeline.builders import contents, lines_of, numbered, own, pipeline, write_jsonl

WHOLE = [own("no_odd"), own("doubled"), own("halved"), own("largest", keep=4)]


def test_each_row_is_kept_edited_noted_repeated_or_put_aside(tmp_path: Path) -> None:
    """100 rows: 50 are odd; of 0, 2, ..., 98 all are doubled but 66, which raises; of these 49 the largest four are
    196, 194, 192 and 188's neighbour 190. 196 is there twice, and 0, without a feature, is passed over and kept."""
    config = pipeline(numbered(tmp_path / "in.jsonl", 100), tmp_path / "out", WHOLE)
    summary = run_pipeline(config)
    rows = lines_of(tmp_path / "out/rows")
    assert [(row["id"], row["n"], row["curation"]) for row in rows] == [
        ("r0", 0, {"halved": {"half": 0.0}}),
        ("r92", 184, {"halved": {"half": 92.0}}),
        ("r94", 188, {"halved": {"half": 94.0}}),
        ("r96", 192, {"halved": {"half": 96.0}}),
        ("r98", 196, {"halved": {"half": 98.0}}),
        ("r98#2", 196, {"halved": {"half": 98.0}}),
    ]
    aside = lines_of(tmp_path / "out/dropped")
    assert {row["id"] for row in rows} | {line["id"] for line in aside} == {f"r{n}" for n in range(100)} | {"r98#2"}
    spoiled = next(line for line in aside if line["id"] == "r66")
    assert (spoiled["kind"], spoiled["operator"], spoiled["reason"]) == ("error", "doubled", "ValueError")
    assert spoiled["detail"] == "66 spoils its batch" and spoiled["row"] == {"id": "r66", "n": 66}
    assert spoiled["place"] == f"{tmp_path / 'in.jsonl'}, row 67"
    assert [(t.name, t.rows_in, t.rows_out) for t in summary.tallies] == [
        ("input", 100, 100),
        ("no_odd", 100, 50),
        ("doubled", 50, 49),
        ("halved", 49, 49),
        ("largest", 49, 6),
    ]
    assert summary.rows == 6 and summary.errors == {"ValueError": 1}
    assert summary.tallies[1].values["n"][:4] == [0, 1, 2, 3]


def test_a_row_becomes_several(tmp_path: Path) -> None:
    """Names of parts tell which row they are of; the largest is there twice. None at all is no split."""
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "n": 1}, {"id": "b", "n": 3}])
    summary = run_pipeline(pipeline(source, tmp_path / "out", [own("in_parts"), own("largest", keep=2)]))
    rows = lines_of(tmp_path / "out/rows")
    assert [(row["id"], row["n"]) for row in rows] == [("a/1", 0), ("b/1", 0), ("b/2", 1), ("b/3", 2), ("b/3#2", 2)]
    assert [(t.name, t.rows_in, t.rows_out, t.edited, t.repeated) for t in summary.tallies[1:]] == [
        ("in_parts", 2, 4, {"taken apart": 2}, 2),
        ("largest", 4, 5, {}, 1),
    ]
    assert all(tally.seconds > 0 for tally in summary.tallies[1:])
    none = write_jsonl(tmp_path / "none.jsonl", [{"id": "c", "n": 0}])
    with pytest.raises(ConfigError, match="splits a row into none"):
        run_pipeline(pipeline(none, tmp_path / "other", [own("in_parts")]))


def test_rows_that_are_none_go_aside_as_errors(tmp_path: Path) -> None:
    rows = [{"id": 7, "n": 2}, "{broken", "[1]", "", '{"id": "half", "n": "\\ud800"}', {"n": 4}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    run_pipeline(pipeline(source, tmp_path / "out", [own("no_odd")], max_error_rate=0.6))
    assert lines_of(tmp_path / "out/rows") == [{"id": "7", "n": 2}, {"id": "in:6", "n": 4}]
    aside = lines_of(tmp_path / "out/dropped")
    assert [(line["place"].rpartition(" ")[2], line["operator"], line["kind"]) for line in aside] == [
        (number, "input", "error") for number in ("2", "3", "5")
    ]
    assert aside[0]["row"] == {"raw": "{broken\n"} and "is not JSON" in aside[0]["detail"]


def test_more_errors_than_the_rate_end_the_run_and_a_higher_rate_goes_on(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": f"r{n}", "n": -n} for n in range(1, 51)])
    with pytest.raises(RunError, match=r"of 50 rows ended in an error, more than max_error_rate 0.1"):
        run_pipeline(pipeline(source, tmp_path / "out", [own("no_odd")], max_error_rate=0.1))
    assert not (tmp_path / "out/curation.json").exists()
    assert run_pipeline(pipeline(source, tmp_path / "out", [own("no_odd")], max_error_rate=1.0)).rows == 0
    assert len(lines_of(tmp_path / "out/dropped")) == 50


def test_equal_runs_are_equal_to_the_byte_and_nothing_is_done_twice(tmp_path: Path) -> None:
    source = numbered(tmp_path / "in.jsonl", 100)
    for name in ("one", "other"):
        run_pipeline(pipeline(source, tmp_path / name, WHOLE))
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    said: list[str] = []
    run_pipeline(pipeline(source, tmp_path / "one", WHOLE), said.append)
    assert [line.partition(": ")[2].partition(" in")[0] for line in said] == [f"0 of {_blocks(tmp_path)} blocks"] * 4


def _blocks(tmp_path: Path) -> int:
    return len(list((tmp_path / "one/rows").iterdir()))


@pytest.mark.parametrize("at", [48, pytest.param(0, marks=pytest.mark.slow), pytest.param(98, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, at: int) -> None:
    """SIGKILL in the middle of a block, of the first stage and of the one behind the set operator. What other kills may
    leave, half a file and what a set operator did not hold in memory, is taken away."""
    source, marker = numbered(tmp_path / "in.jsonl", 100), str(tmp_path / "killed")
    for place in (1, 3):
        operators = [own("no_odd"), own("halved"), own("largest", keep=100)]
        operators.insert(place, own("killed_once", at=at, marker=marker))
        Path(marker).touch()
        run_pipeline(pipeline(source, tmp_path / f"whole{place}", operators))
        Path(marker).unlink()
        output = tmp_path / f"killed{place}"
        assert _run_as_a_command(pipeline(source, output, operators)) == -9
        assert not (output / "curation.json").exists()
        (output / "stages/02/.scratch_left/bands").mkdir(parents=True, exist_ok=True)
        for folder in ("rows", "dropped", "stages/00/done"):
            (output / folder / ".00000.jsonl.7.partial").write_text("half", encoding="utf-8")
        run_pipeline(pipeline(source, output, operators))
        assert not [*output.rglob("*.partial"), *output.rglob(".scratch*")]
        assert contents(output) == contents(tmp_path / f"whole{place}")


def _run_as_a_command(config) -> int:
    file = Path(config.output).with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-m", "pangu_rl", "curate", "--config", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    return done.returncode


def test_a_changed_setting_is_named_and_only_what_stands_on_it_is_done_again(tmp_path: Path) -> None:
    source, output = numbered(tmp_path / "in.jsonl", 100), tmp_path / "out"
    run_pipeline(pipeline(source, output, WHOLE))
    said: list[str] = []
    changed = [*WHOLE[:3], own("largest", keep=2)]
    run_pipeline(pipeline(source, output, changed), said.append)
    assert said[0] == "stage 2 and later are computed again: operator largest: keep was 4 and is 2"
    assert said[1].startswith("stage 0 (no_odd, doubled): 0 of ")
    run_pipeline(pipeline(source, tmp_path / "fresh", changed))
    assert contents(output) == contents(tmp_path / "fresh")
    write_jsonl(source, [{"id": "r2", "n": 2}])
    said.clear()
    assert run_pipeline(pipeline(source, output, changed), said.append).rows == 2
    assert said[0] == "stage 0 and later are computed again: input in.jsonl has other rows"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").touch()
    with pytest.raises(DataError, match="holds something that no pipeline made"):
        run_pipeline(pipeline(numbered(tmp_path / "in.jsonl", 3), tmp_path / "out", []))


def test_parquet_with_pictures_in_it_becomes_rows_of_json(tmp_path: Path) -> None:
    picture = {"bytes": b"\x89PNG....", "path": None}
    table = pa.table({"id": ["a", "b"], "n": [2, 4], "images": [[picture], [{"bytes": None, "path": "x.png"}]]})
    pq.write_table(table, tmp_path / "in.parquet")
    run_pipeline(pipeline(tmp_path / "in.parquet", tmp_path / "out", [own("no_odd")]))
    first, second = lines_of(tmp_path / "out/rows")
    assert first["images"] == ["data:image/png;base64,iVBORy4uLi4="] and second["images"] == ["x.png"]


def test_the_manifest_counts_every_row(tmp_path: Path) -> None:
    run_pipeline(pipeline(numbered(tmp_path / "in.jsonl", 10), tmp_path / "out", [own("no_odd", least=4)]))
    manifest = json.loads((tmp_path / "out/curation.json").read_text())
    assert manifest["rows"] == 7 and manifest["counts"][1]["dropped"] == {"odd": 3}
    assert manifest["operators"][0]["args"] == {"least": 4}


def test_a_file_that_a_setting_names_is_part_of_it(tmp_path: Path) -> None:
    source, prompts = tmp_path / "in.jsonl", tmp_path / "held.jsonl"
    write_jsonl(source, [{"id": name, "prompt": f"What is {name}?", "answer": name} for name in ("left", "right")])
    for name, others in (("left", ["right"]), ("right", ["left"])):
        write_jsonl(prompts, [{"prompt": f"what is {name}", "answer": name}])
        held_out = {"name": "held_out", "args": {"prompts": [str(prompts)]}}
        said: list[str] = []
        _for_questions.cache_clear()  # a process reads it once
        run_pipeline(pipeline(source, tmp_path / "out", [held_out]), said.append)
        assert [row["id"] for row in lines_of(tmp_path / "out/rows")] == others
    assert said[0] == "stage 0 and later are computed again: operator held_out: a file that it names was changed"
    assert [name for name in ("http://x/y", "~nobody/x", "a\0b", "x" * 5000, "no file") if named_content(name)] == []


def test_pictures_are_let_go_of_behind_a_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 rows at most two batches of 32 hold what they read."""
    alive: set[int] = set()
    most = 0
    picture, forget = Record.picture, Record.forget

    def counted(self: Record, path: str):
        nonlocal most
        alive.add(id(self))
        most = max(most, len(alive))
        return picture(self, path)

    def let_go(self: Record) -> None:
        alive.discard(id(self))
        forget(self)

    monkeypatch.setattr(Record, "picture", counted)
    monkeypatch.setattr(Record, "forget", let_go)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": f"r{n}", "images": ["a.png"]} for n in range(100)])
    config = pipeline(source, tmp_path / "out", ["decodable_pictures"], media_root=str(tmp_path), shard_mib=1)
    assert run_pipeline(config).rows == 100
    assert most == 32


def test_an_operator_that_is_careless_loses_no_row_and_no_id(tmp_path: Path) -> None:
    config = pipeline(numbered(tmp_path / "in.jsonl", 2), tmp_path / "out", [own("careless")], max_error_rate=1.0)
    run_pipeline(config)
    assert lines_of(tmp_path / "out/rows") == [{"m": 1, "id": "r1"}]
    (aside,) = lines_of(tmp_path / "out/dropped")
    assert (aside["id"], aside["reason"]) == ("r0", "TypeError")


def test_a_row_that_ends_its_decoder_is_put_aside_and_the_others_are_kept(tmp_path: Path, monkeypatch) -> None:
    """By a fault in C, by not coming back, by its memory; what is larger than a child's reply comes through."""
    monkeypatch.setattr(guarded, "DEADLINE_S", 4.0)
    monkeypatch.setattr(guarded, "MEMORY_MIB", 100)
    does = ("read", "fault", "hang", "swell", "raise", "read")
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": f"{n}", "does": one} for n, one in enumerate(does)])
    summary = run_pipeline(pipeline(source, tmp_path / "out", [own("decoded")], max_error_rate=1.0, shard_mib=1))
    assert [row["id"] for row in lines_of(tmp_path / "out/rows")] == ["0/1", "0/2", "5/1", "5/2"]
    lines = lines_of(tmp_path / "out/dropped")
    aside = {line["row"]["does"]: (line["kind"], line["reason"], line["detail"]) for line in lines}
    assert aside["fault"][:2] == ("error", "ChildKilled") and "SIGSEGV" in aside["fault"][2]
    assert aside["hang"] == ("error", "ChildTimeout", "not done within 4 s")
    assert aside["swell"][:2] == ("error", "ChildKilled") and "memory limit" in aside["swell"][2]
    assert aside["raise"] == ("error", "DataError", "no such stream") and summary.rows == 4
    assert declared(pdf_pages).guarded and declared(video_clips).guarded
