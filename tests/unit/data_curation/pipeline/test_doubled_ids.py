"""Rows of several files: each id is there once behind a run, whether it was a row's own or made of file and number."""

from __future__ import annotations

from pathlib import Path

from data_curation.pipeline.doubled_ids import number_doubled_ids, write_ids
from data_curation.pipeline.folder import Folder, read_lines, write_lines
from data_curation.pipeline.run import run_pipeline
from pangu_rl.data.index.files import row_files
from tests.unit.data_curation.pipeline.builders import lines_of, own, pipeline, write_jsonl


def test_files_of_one_stem_and_rows_of_one_id(tmp_path: Path) -> None:
    """`0` is there three times, and somebody has a `0~2` already, so the second one is `0~3` and the third the next
    that is free. The second file named `rows` numbers its own rows as such."""
    for name, rows in {
        "a": [{"n": 2}, {"id": 0, "n": 0}, {"id": "0~2", "n": 4}],
        "b": [{"n": 6}, {"id": "0", "n": 8}, {"id": "rows:1", "n": 10}, {"id": 0, "n": 12}],
    }.items():
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "rows.jsonl", rows)
    config = pipeline(tmp_path, tmp_path / "out", [own("no_odd")], input=[str(tmp_path / "a"), str(tmp_path / "b")])
    said: list[str] = []
    run_pipeline(config, said.append)
    named = {row["n"]: row["id"] for row in lines_of(tmp_path / "out/rows")}
    assert named == {2: "rows:1", 0: "0", 4: "0~2", 6: "rows~2:1", 8: "0~3", 10: "rows:1~2", 12: "0~4"}
    assert said[-1] == "3 rows have the id of an earlier one, which ends in ~2, ~3, ... now"
    write_jsonl(tmp_path / "b/rows.jsonl", [{"id": "1", "n": 0}])
    said.clear()
    run_pipeline(config, said.append)
    assert said[0] == "stage 0 and later are computed again: input rows~2.jsonl has other rows"
    assert len(row_files([tmp_path / "out/rows"])) == 2


def test_a_kill_between_two_shards_changes_no_name(tmp_path: Path) -> None:
    """The second of three shards is named already, the third is not yet."""
    folder = Folder(tmp_path)
    folder.prepare(0)
    for number in range(3):
        write_ids(folder.ids(0, number), ["x", f"y{number}"])
        write_lines(folder.rows(0, number, last=True), [{"id": "x"}, {"id": f"y{number}"}])

    def names() -> list[str]:
        return [row["id"] for number in range(3) for row in read_lines(folder.rows(0, number, last=True))]

    assert number_doubled_ids(folder, 0, 3) == 2
    assert names() == ["x", "y0", "x~2", "y1", "x~3", "y2"]
    write_lines(folder.rows(0, 2, last=True), [{"id": "x"}, {"id": "y2"}])
    assert number_doubled_ids(folder, 0, 3) == 2
    assert names() == ["x", "y0", "x~2", "y1", "x~3", "y2"]
