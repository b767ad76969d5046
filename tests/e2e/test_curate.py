"""A pipeline of curation over Ray Data: two workers write what one process writes, and errors come through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import ConfigError, RunError
from tests.small_ray import small_ray
from tests.unit.data_curation.pipeline.builders import contents, numbered, own, pipeline

pytestmark = pytest.mark.slow
OPERATORS = [own("no_odd"), own("doubled"), own("largest", keep=30)]


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with small_ray():
        yield


def test_two_workers_write_the_bytes_of_one(small: None, tmp_path: Path) -> None:
    source = numbered(tmp_path / "in.jsonl", 300)
    run_pipeline(pipeline(source, tmp_path / "one", OPERATORS))
    run_pipeline(pipeline(source, tmp_path / "two", OPERATORS, workers={"cpu": 2}))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_ends_a_run_ends_it_there_too(small: None, tmp_path: Path) -> None:
    source = numbered(tmp_path / "in.jsonl", 300)
    with pytest.raises(RunError, match="ended in an error"):
        run_pipeline(pipeline(source, tmp_path / "bad", OPERATORS, workers={"cpu": 2}, max_error_rate=0.0))
    with pytest.raises(ConfigError, match="9 workers and 2 CPUs"):
        run_pipeline(pipeline(source, tmp_path / "many", OPERATORS, workers={"cpu": 9}))
