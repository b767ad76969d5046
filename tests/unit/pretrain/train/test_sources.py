"""Shares by source or by file, and shares that change from step to step."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import ConfigError
from pretrain.packing.online import StreamSample
from pretrain.train.online import OnlineOrder
from pretrain.train.run_pack import packing_of
from pretrain.train.sources import Sources, shares_at
from tests.unit.pretrain.train.builders import measured_as, stage, write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """rows.jsonl, and the same rows as two files of 8 and 16 without sources."""
    home = tmp_path_factory.mktemp("rows")
    lines = write_rows(home).read_text().replace('"source"', '"origin"').splitlines(keepends=True)
    (home / "few.jsonl").write_text("".join(lines[:8]))
    (home / "many").mkdir()
    (home / "many" / "a.jsonl").write_text("".join(lines[8:14]))
    (home / "many" / "b.jsonl").write_text("".join(lines[14:]))
    return home


def of_files(folder: Path, model: Path, **data):
    train = [str(folder / "few.jsonl"), str(folder / "many")]
    return stage(folder, model, data={"train": train, "shares": {train[0]: 1, train[1]: 1}} | data)


def test_files_and_folders_are_sources_of_their_own(folder, tiny_vl_model):
    config = of_files(folder, tiny_vl_model)
    files = open_rows(config.data.row_paths(), on_bad_row="refuse")
    sources = Sources(files, config.data)
    assert {Path(name).name: list(rows) for name, rows in sources.streams().items()} == {
        "few.jsonl": list(range(8)),
        "many": list(range(8, 24)),
    }
    assert [Path(sources.of(row)).name for row in (0, 7, 8, 23)] == ["few.jsonl", "few.jsonl", "many", "many"]


def test_a_file_that_is_not_named_or_has_no_rows_is_refused(folder, tiny_vl_model):
    few = str(folder / "few.jsonl")
    config = of_files(folder, tiny_vl_model, shares={few: 1})
    files = open_rows(config.data.row_paths(), on_bad_row="refuse")
    with pytest.raises(ConfigError, match=r"data\.train has .*many, data.shares does not name it"):
        Sources(files, config.data).streams()
    only_few = open_rows([folder / "few.jsonl"], on_bad_row="refuse")
    with pytest.raises(ConfigError, match=r"many is 1, but no row of .*few.jsonl has that source"):
        Sources(only_few, of_files(folder, tiny_vl_model).data).streams()


def test_shares_go_in_a_straight_line_and_the_packs_follow(folder, tiny_vl_model):
    """From 3 : 1 to 1 : 3 over five steps: 0.75, 0.625, 0.5, 0.375, 0.25 of 8 packs, 6 + 5 + 4 + 3 + 2 = 20 of 40."""
    data = {"shares": {"vl": 3, "text": 1}, "end_shares": {"vl": 1, "text": 3}, "pool": 2}
    config = stage(folder, tiny_vl_model, data=data, trainer={"steps": 5, "packs_per_step": 8})
    assert [shares_at(step, 5, config.data, ("vl", "text"))["vl"] for step in (1, 3, 5, 6)] == [0.75, 0.5, 0.25, 0.25]
    files = open_rows(folder / "rows.jsonl", on_bad_row="refuse")
    order = OnlineOrder(files, config, lambda *sizes: float(sizes[0]))
    measure = measured_as(lambda row: StreamSample(row, 200))
    counts = [Counter(files.source(pack.rows[0]) for pack in order.next_batch(measure)) for _ in range(5)]
    assert [count["vl"] for count in counts] == [6, 5, 4, 3, 2]


def test_a_source_may_come_in_later(folder, tiny_vl_model):
    data = {"shares": {"vl": 1, "text": 0}, "end_shares": {"vl": 0, "text": 1}, "pool": 2}
    config = stage(folder, tiny_vl_model, data=data)
    assert set(Sources(open_rows(folder / "rows.jsonl", on_bad_row="refuse"), config.data).streams()) == {"vl", "text"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shares": {"vl": 0.8, "text": 0.3}}, "data.shares are fractions that add up to 1.1: make it 1"),
        ({"shares": {"vl": 0, "text": 0}}, "the data.shares of text, vl are all 0"),
        ({"shares": {"vl": 1}, "end_shares": {"text": 1}}, "name other sources: text is in one alone"),
        ({"end_shares": {"vl": 0.5, "text": 0.4}}, "data.end_shares are fractions that add up to 0.9"),
        ({"shares_by": "tokens"}, "data.shares_by is tokens without data.shares"),
        ({"shares": {"vl": 1}, "plan": "plan"}, "data.plan and data.shares are both set"),
    ],
)
def test_shares_that_mean_nothing_are_refused(folder, tiny_vl_model, data, message):
    with pytest.raises(ConfigError, match=message):
        stage(folder, tiny_vl_model, data=data)


def test_a_plan_has_one_mixture_by_source(folder, tiny_vl_model):
    shares = {"vl": 3, "text": 1}
    packing = packing_of(stage(folder, tiny_vl_model, data={"shares": shares, "shares_by": "samples"}))
    assert (packing.shares, packing.shares_by) == (shares, "samples")
    with pytest.raises(ConfigError, match="end_shares go with packing online"):
        packing_of(stage(folder, tiny_vl_model, data={"shares": shares, "end_shares": shares}))
    with pytest.raises(ConfigError, match=r"names the file .*few.jsonl, a plan mixes by the `source`"):
        packing_of(of_files(folder, tiny_vl_model))
