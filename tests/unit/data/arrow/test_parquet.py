"""What a Parquet file needs in memory follows what it says, not how well that is compressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.data import load_prompts
from pangu_rl.data.arrow import parquet
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import DataError

MIB = 2**20


@pytest.fixture
def pool() -> Iterator[pa.MemoryPool]:
    """Counts what Arrow allocates from here on."""
    before = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counted)
    yield counted
    pa.set_memory_pool(before)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 rows of one text of 1 MiB, 500 MiB together, in some tens of kilobytes."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.parquet"
    rows = [{"id": str(index), "prompt": "?", "answer": "x" * MIB} for index in range(500)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    assert path.stat().st_size < 100_000
    return path


def test_a_small_file_of_repeated_text_needs_little_memory(bomb: Path, pool: pa.MemoryPool) -> None:
    """64 rows of 1 MiB at a time, beside the page that holds the text once."""
    with pytest.raises(DataError, match=r"row 101: key answer has 1048576 characters.*bad rows on end"):
        load_prompts(bomb, on_bad_row="skip")
    assert 64 * MIB <= pool.max_memory() < 200 * MIB


def test_texts_as_long_as_a_column_are_decoded_one_by_one(tmp_path: Path) -> None:
    """A dictionary of one text of 80 MiB for 16 rows: three rows of a column of 80 MiB fit into 256."""
    table = pa.Table.from_pylist([{"id": "0", "answer": "x" * (80 * MIB)}] * 16)
    pq.write_table(table, tmp_path / "long.parquet", compression="zstd")
    with parquet.parquet_file(tmp_path / "long.parquet") as file:
        batches = list(parquet.row_batches(file, tmp_path, 0))
    assert [batch.num_rows for batch in batches] == [3, 3, 3, 3, 3, 1]


def test_a_row_group_out_of_proportion_is_refused_when_it_is_read(bomb: Path, pool: pa.MemoryPool, monkeypatch) -> None:
    """The index itself needs its ids alone."""
    monkeypatch.setattr(parquet, "GROUP_BYTES", 100 * MIB)
    rows = open_rows(bomb, on_bad_row="skip")
    with pytest.raises(DataError, match=r"bomb\.parquet: row group 0 needs more than .* fewer rows a group"):
        rows.read(0)
    assert pool.max_memory() < 250 * MIB


def test_row_groups_are_read_whole_and_in_order(tmp_path: Path) -> None:
    """More rows than are decoded at a time, over several groups, one of them empty."""
    rows = [{"id": str(index), "prompt": f"{index}?", "answer": "1"} for index in range(200)]
    path = tmp_path / "rows.parquet"
    table = pa.Table.from_pylist(rows)
    with pq.ParquetWriter(path, table.schema) as file:
        for part in (table.slice(0, 150), table.slice(0, 0), table.slice(150)):
            file.write_table(part)
    assert list(parquet.parquet_rows(path)) == rows
    with parquet.parquet_file(path) as file:
        assert parquet.row_group(file, path, 0, ["id"]).to_pylist() == [{"id": str(index)} for index in range(150)]
        assert parquet.row_group(file, path, 1, ["id"]).num_rows == 0


def test_text_that_is_no_utf8_is_a_bad_row(tmp_path: Path) -> None:
    texts = pa.array([b"2", b"2\xff", b"2"]).view(pa.string())
    pq.write_table(pa.table({"prompt": pa.array(["1 + 1?"] * 3), "answer": texts}), tmp_path / "set.parquet")
    loaded = load_prompts(tmp_path / "set.parquet", on_bad_row="skip")
    assert [len(loaded.records), len(loaded.skipped)] == [2, 1]
    assert "row 2: is not UTF-8 at byte 1" in loaded.skipped[0]
