"""Metadata in pieces: each sample once or with a reason, the same plan for any workers, steps read across parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.errors import ConfigError, DataError
from pretrain.packing import pieces, plan_file
from pretrain.packing.metadata import read_metadata
from pretrain.packing.pack import pack_file, processes
from pretrain.packing.plan_file import PlanReader
from tests.unit.pretrain.packing.builders import ROWS as ONE
from tests.unit.pretrain.packing.builders import config, drawn_rows

ROWS = 1500


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """Row groups of 100, pieces of about 400."""
    monkeypatch.setattr(pieces, "PIECE_SAMPLES", 400)
    pq.write_table(pa.table(ONE | drawn_rows(ROWS)), tmp_path / "metadata.parquet", row_group_size=100)
    return tmp_path / "metadata.parquet"


def packs_of(reader: PlanReader) -> list[list[plan_file.PlannedPack]]:
    return [reader.packs(step) for step in range(reader.steps)]


def left_out(folder: Path) -> list[dict]:
    return [row for file in sorted(folder.glob("left_out-*")) for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("settings", [{"ranks": 4, "global_batch": 8}, {"visual_tokens": 700, "ranks": 2}])
def test_nothing_is_lost_and_every_step_but_the_last_is_whole(path, tmp_path, settings):
    chosen = config(context=1500, **settings)
    summary = pack_file(path, tmp_path / "plan", chosen, map)
    reader = PlanReader(tmp_path / "plan")
    assert len(reader.manifest["parts"]) == 5
    steps = packs_of(reader)
    assert {len(step) for step in steps[:-1]} == {chosen.step_packs}
    assert len(steps[-1]) % chosen.ranks == 0
    known = read_metadata(path, chosen)
    trained = [(uid, row) for step in steps for pack in step for uid, row in zip(pack.ids, pack.rows, strict=True)]
    for step in steps:
        for pack in step:
            assert pack.tokens == known.tokens[list(pack.rows)].sum() <= 1500
            assert pack.visual_tokens == known.visual_tokens[list(pack.rows)].sum() <= chosen.visual_limit
            assert pack.visual_flops == pytest.approx(known.visual_flops[list(pack.rows)].sum())
    assert all(uid == f"s{row:05d}" for uid, row in trained)
    rest = left_out(tmp_path / "plan")
    assert sorted([row for _, row in trained] + [row["row"] for row in rest]) == list(range(ROWS))
    assert Counter(row["reason"] for row in rest) == Counter(
        {reason: count for reason, count in reader.manifest["samples_left_out"].items() if count}
    )
    assert reader.manifest["samples"] == len(trained)
    assert summary.manifest["packs_carried_over"] < chosen.ranks
    assert reader.manifest["fill"] > 0.97 or "visual_tokens" in settings


def test_workers_change_nothing_and_the_order_has_no_trend(path, tmp_path):
    chosen = config(context=1500, ranks=2, global_batch=4)
    pack_file(path, tmp_path / "one", chosen, map)
    with processes() as run:
        pack_file(path, tmp_path / "two", chosen, run)
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert len(names) == 11 and names == sorted(file.name for file in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)
    steps = packs_of(PlanReader(tmp_path / "one"))
    means = [np.mean([row for pack in step for row in pack.rows]) for step in steps]
    halves = np.mean(means[: len(means) // 2]), np.mean(means[len(means) // 2 :])
    assert halves == (pytest.approx(750, rel=0.1), pytest.approx(750, rel=0.1)), "rows of the file are spread over it"


@pytest.mark.parametrize("by", ["tokens", "samples"])
def test_shares_hold_over_all_pieces(path, tmp_path, by):
    chosen = config(context=1500, shares={"text": 1, "vl": 1}, shares_by=by)
    pack_file(path, tmp_path / "plan", chosen, map)
    known = read_metadata(path, chosen)
    rows = np.array([row for step in packs_of(PlanReader(tmp_path / "plan")) for pack in step for row in pack.rows])
    sizes = known.tokens if by == "tokens" else np.ones_like(known.tokens)
    text = known.source == known.sources.index("text")
    assert sizes[rows][text[rows]].sum() / sizes[rows].sum() == pytest.approx(0.5, abs=0.02)
    assert "not drawn" in {row["reason"] for row in left_out(tmp_path / "plan")}


def test_a_repeated_draw_leaves_nothing_out_that_is_trained_on(path, tmp_path):
    """Of packs carried over, samples whose copies are trained on elsewhere are not left out."""
    chosen = config(context=1500, ranks=7, shares={"text": 1, "vl": 1}, tokens=2_000_000)
    pack_file(path, tmp_path / "plan", chosen, map)
    trained = {row for step in packs_of(PlanReader(tmp_path / "plan")) for pack in step for row in pack.rows}
    assert not trained & {row["row"] for row in left_out(tmp_path / "plan")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": 1}, r"none of 1500 samples fits: the shortest has \d+ tokens, the context 1"),
        ({"shares": {"text": 1, "vl": 1}, "tokens": 1}, "metadata.parquet: tokens 1 draws no sample"),
        ({"shares": {"text": 1}}, "source 'vl' is in metadata.parquet but has no share"),
        ({"shares": {"text": 1, "vl": 1, "web": 1}}, "source 'web' is not in metadata.parquet"),
    ],
)
def test_what_all_pieces_lack_is_refused(path, tmp_path, settings, message):
    with pytest.raises((DataError, ConfigError), match=message):
        pack_file(path, tmp_path / "plan", config(**settings), map)
    assert [file.name for file in tmp_path.iterdir()] == ["metadata.parquet"]


def test_a_piece_of_which_no_sample_fits_is_an_empty_part(path, tmp_path):
    columns = ONE | drawn_rows(ROWS)
    first = pieces._piece_of(pa.array(columns["id"]), 4, seed=0) == 0
    columns |= {"text_tokens": np.where(first, 100, 5000), "width": [0] * ROWS, "height": [0] * ROWS}
    pq.write_table(pa.table(columns), path, row_group_size=100)
    pack_file(path, tmp_path / "plan", config(context=1000), map)
    reader = PlanReader(tmp_path / "plan")
    assert list(reader.manifest["parts"].values())[1:4] == [0, 0, 0]
    assert {row for step in packs_of(reader) for pack in step for row in pack.rows} == set(
        np.flatnonzero(first).tolist()
    )


def test_a_bad_row_and_a_repeated_id_are_named_with_their_rows(path, tmp_path):
    for column, value, message in (
        ("text_tokens", -1, "row 1201: id 's01200', text_tokens -1: must be a whole number"),
        ("id", "s00007", "row 1201: id 's00007': repeats the id of an earlier row"),
    ):
        columns = ONE | drawn_rows(ROWS)
        columns[column] = [*columns[column][:1200], value, *columns[column][1201:]]
        pq.write_table(pa.table(columns), path, row_group_size=100)
        with pytest.raises(DataError, match=message):
            pack_file(path, tmp_path / "plan", config(context=1500), map)


def test_a_part_that_was_changed_is_found_when_it_is_opened(path, tmp_path, monkeypatch):
    pack_file(path, tmp_path / "plan", config(context=1500, ranks=2, global_batch=8), map)
    last = sorted((tmp_path / "plan").glob("packs-*"))[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    with pytest.raises(DataError, match="the plan was changed"):
        PlanReader(tmp_path / "plan")
    monkeypatch.setattr(plan_file, "CHECKED_FILES", 2)
    reader = PlanReader(tmp_path / "plan")
    reader.packs(0)
    with pytest.raises(DataError, match="the plan was changed"):
        reader.packs(reader.steps - 1)
