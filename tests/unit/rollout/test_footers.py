"""A shard's end is read once of each state of the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pangu_rl.errors import DataError
from pangu_rl.records import SamplingParams
from rollout import footers
from rollout.footers import footer
from rollout.store import RolloutStore
from tests.unit.report.drawn_run import sums


def test_read_once_and_anew_when_the_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    checked = footers.checked_metadata
    monkeypatch.setattr(footers, "checked_metadata", lambda path: read.append(path) or checked(path))
    store = RolloutStore(tmp_path)
    path = store.append(1, [sums(1)], SamplingParams())
    assert [footer(path).rows for _ in range(3)] == [3, 3, 3] and read == [path]
    store.append(1, [sums(1), sums(1)], SamplingParams())
    assert footer(path).rows == 6 and len(read) == 2
    assert footer(path).schema.field("reward").type == "double" and footer(path).schema.metadata is None


def test_what_cannot_be_read_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "step_000001.parquet"
    with pytest.raises(DataError, match="not a readable Parquet file"):
        footer(path)
    RolloutStore(tmp_path / "run").append(1, [sums(1)], SamplingParams())
    table = pq.read_table(tmp_path / "run" / "rollouts" / path.name)
    pq.write_table(table.replace_schema_metadata({b"pangu_rl.rollouts": b"99"}), path)
    for _ in range(2):
        with pytest.raises(DataError, match="rollout schema 99"):
            footer(path)
