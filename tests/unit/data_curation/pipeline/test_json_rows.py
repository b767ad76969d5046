"""What columns of Parquet hold and JSON does not: it becomes what JSON holds, or an error that names the column."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_curation.pipeline.json_rows import json_row
from data_curation.pipeline.run import run_pipeline
from pangu_rl.data.fields.bad_row import BadRow
from tests.unit.data_curation.pipeline.builders import lines_of, own, pipeline, write_jsonl


def test_columns_become_what_json_holds(tmp_path: Path) -> None:
    """Column -> value in Parquet and value in JSON."""
    columns = {
        "at": (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), "2024-02-29T12:30:00+00:00"),
        "day": (date(2024, 2, 29), "2024-02-29"),
        "lasts": (timedelta(milliseconds=1500), 1.5),
        "price": (Decimal("1.50"), 1.5),
        "large": (Decimal(2**60 + 1), 2**60 + 1),
        "score": (float("nan"), None),
        "scores": ([1.0, float("-inf")], [1.0, None]),
        "meta": ({"made": date(2024, 1, 2)}, {"made": "2024-01-02"}),
        "image": ({"bytes": b"\x89PNG....", "path": None}, "data:image/png;base64,iVBORy4uLi4="),
    }
    held = {name: [value] for name, (value, _) in columns.items()}
    pq.write_table(pa.table({"id": ["a"], "n": [2]} | held), tmp_path / "in.parquet")
    run_pipeline(pipeline(tmp_path / "in.parquet", tmp_path / "out", [own("no_odd")]))
    (line,) = (tmp_path / "out/rows/00000.jsonl").read_text().splitlines()

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    row = json.loads(line, parse_constant=no_number)
    assert row == {"id": "a", "n": 2} | {name: wanted for name, (_, wanted) in columns.items()}


def test_lines_may_hold_what_json_does_not(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", ['{"n": 2, "a": NaN, "b": [1e999]}', '{"n": 4}'])
    run_pipeline(pipeline(source, tmp_path / "out", [own("no_odd")]))
    assert lines_of(tmp_path / "out/rows")[0] == {"id": "in:1", "n": 2, "a": None, "b": [None]}


def test_bytes_elsewhere_are_an_error_that_names_the_column(tmp_path: Path) -> None:
    sound = {"bytes": b"RIFF", "path": "a.wav"}
    pq.write_table(pa.table({"n": [2, 4], "audio": [sound, None]}), tmp_path / "in.parquet")
    run_pipeline(pipeline(tmp_path / "in.parquet", tmp_path / "out", [own("no_odd")], max_error_rate=0.5))
    (aside,) = lines_of(tmp_path / "out/dropped")
    assert aside["detail"].startswith("key audio holds bytes, which JSON cannot: leave the column out")
    assert [row["n"] for row in lines_of(tmp_path / "out/rows")] == [4]
    with pytest.raises(BadRow, match="key images holds bytes"):
        json_row({"images": [b"\x89PNG"]})
