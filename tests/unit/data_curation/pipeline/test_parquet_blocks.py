"""Blocks of Parquet are of the size that was asked for, however large its row groups are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_curation.pipeline import parquet_blocks
from data_curation.pipeline.parquet_blocks import row_ranges, rows_between
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import DataError
from tests.unit.data_curation.pipeline.builders import lines_of, own, pipeline


def written(path: Path, rows: int, group: int) -> Path:
    """Of 800 bytes a row, and a little for pages."""
    table = pa.table({"n": range(rows), "text": [f"{n:0784d}" for n in range(rows)]})
    pq.write_table(table, path, row_group_size=group, use_dictionary=False, compression="none")
    return path


@pytest.mark.parametrize("group", [1000, 300, 7])
def test_a_block_is_of_the_size_that_was_asked_for(tmp_path: Path, group: int) -> None:
    """80,000 bytes are a hundred rows of 800: whether a group has a thousand of them, three hundred or seven, to
    whose rows its pages add some."""
    path = written(tmp_path / "in.parquet", 1000, group)
    ranges = row_ranges(path, 80_000)
    assert [begin for begin, _ in ranges[1:]] == [end for _, end in ranges[:-1]]
    assert (ranges[0][0], ranges[-1][1]) == (0, 1000)
    assert all(70 <= end - begin <= 101 for begin, end in ranges[:-1])
    numbers = [[(number, row["n"]) for number, row in rows_between(path, *one)] for one in ranges]
    assert [row for some in numbers for row in some] == [(n + 1, n) for n in range(1000)]
    assert [[n for n, _ in rows_between(path, *one)] for one in reversed(ranges)] == [
        [n for n, _ in one] for one in reversed(numbers)
    ], "in whatever order"


def test_no_row_is_decoded_twice_by_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, decoded = written(tmp_path / "in.parquet", 1000, 1000), []
    batches = parquet_blocks.row_batches

    def counted(*of):
        for batch in batches(*of):
            decoded.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet_blocks, "row_batches", counted)
    for begin, end in row_ranges(path, 80_000):
        assert len(list(rows_between(path, begin, end))) == end - begin
    assert sum(decoded) == 1000


def test_a_block_that_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rows of 784 characters; a hundred of these are less than 2**18 bytes, with what is before them."""
    path = written(tmp_path / "in.parquet", 1000, 1000)
    monkeypatch.setattr(parquet_blocks, "GROUP_BYTES", 2**18)
    assert len(list(rows_between(path, 500, 600))) == 100
    with pytest.raises(DataError, match=r"rows 1 to 1000 need more than .* in memory: set shard_mib lower"):
        list(rows_between(path, 0, 1000))


def test_a_large_group_becomes_shards(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", 1000, 1000)
    config = pipeline(path, tmp_path / "out", [own("no_odd")], shard_mib=0.4)
    run_pipeline(config)
    assert len(list((tmp_path / "out/rows").iterdir())) == 2
    assert [row["id"] for row in lines_of(tmp_path / "out/rows")] == [f"in:{n}" for n in range(1, 1001, 2)]
    said: list[str] = []
    run_pipeline(config, said.append)
    assert said[0].startswith("stage 0 (no_odd): 0 of 2 blocks")
