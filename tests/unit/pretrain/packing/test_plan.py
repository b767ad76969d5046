"""A plan holds every sample once or says why not; the same input gives the same bytes; a run reads its share."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pangu_rl.errors import DataError
from pretrain.packing import plan, plan_file
from pretrain.packing.plan import LEFT_OUT, make_plan
from pretrain.packing.plan_file import PlanReader, write_plan
from tests.unit.pretrain.packing.builders import config, drawn_metadata, drawn_rows

ROWS = 1500


@pytest.fixture
def metadata(tmp_path):
    return drawn_metadata(tmp_path, ROWS)


def left_out(made: plan.Plan, reason: str) -> set[int]:
    return set(made.left_out[made.reasons == LEFT_OUT.index(reason)].tolist())


@pytest.mark.parametrize(
    "settings", [{}, {"ranks": 3}, {"ranks": 4, "global_batch": 8}, {"visual_tokens": 700, "ranks": 2}]
)
def test_nothing_is_lost(metadata, settings):
    chosen = config(context=1500, **settings)
    made = make_plan(metadata, chosen)
    trained = made.rows[: made.starts[made.packs]]
    assert len(set(trained.tolist())) == len(trained)
    assert sorted([*trained, *made.left_out]) == list(range(ROWS))
    assert left_out(made, "carried over") == set(made.rows[made.starts[made.packs] :].tolist())
    assert left_out(made, "longer than the context") == set(np.flatnonzero(metadata.tokens > 1500).tolist())
    assert made.packs % chosen.ranks == 0
    assert made.carried_over < chosen.ranks
    assert made.tokens.max() <= 1500
    assert made.visual_tokens.max() <= chosen.visual_limit
    for values, sums in ((metadata.tokens, made.tokens), (metadata.visual_flops, made.visual_flops)):
        assert np.allclose(np.add.reduceat(values[made.rows], made.starts[:-1]), sums)
    assert made.fill == made.tokens.sum() / (1500 * len(made.tokens))
    if "visual_tokens" not in settings:
        assert made.fill > 0.98
        assert made.visual_imbalance < 1.02


def test_shards_change_the_packs_but_workers_do_not(metadata, monkeypatch):
    one = make_plan(metadata, config(context=1500))
    monkeypatch.setattr(plan, "SHARD_SAMPLES", 400)
    sharded = make_plan(metadata, config(context=1500))
    parallel = make_plan(metadata, config(context=1500), workers=2)
    assert sharded.rows.tolist() != one.rows.tolist()
    assert sharded.rows.tolist() == parallel.rows.tolist()
    assert sorted(sharded.rows.tolist()) == sorted(one.rows.tolist())
    assert sharded.fill > 0.97


def test_a_draw_by_shares_names_what_is_not_drawn(metadata):
    made = make_plan(metadata, config(context=1500, shares={"text": 1, "vl": 1}))
    text = metadata.source == metadata.sources.index("text")
    trained = made.rows[: made.starts[made.packs]]
    share = metadata.tokens[trained][text[trained]].sum() / metadata.tokens[trained].sum()
    assert share == pytest.approx(0.5, abs=0.02)
    assert left_out(made, "not drawn") and not text[list(left_out(made, "not drawn"))].any()


def test_no_sample_fits(metadata):
    with pytest.raises(DataError, match=r"none of 1500 samples fits: the shortest has \d+ tokens, the context 1"):
        make_plan(metadata, config(context=1))


def test_settings_that_exclude_each_other():
    for settings, message in [
        ({"ranks": 4, "global_batch": 6}, "global_batch 6 cannot be dealt equally to ranks 4"),
        ({"min_pixels": 10**6, "max_pixels": 10**5}, "min_pixels 1000000 exceeds max_pixels 100000"),
        ({"tokens": 5}, "tokens 5 without shares"),
        ({"shares": {"a": 0}}, "the shares of a are all 0"),
        ({"shares": {"a": float("nan")}}, "shares.a"),
    ]:
        with pytest.raises(ValidationError, match=message):
            config(**settings)


def test_a_draw_too_small_for_a_sample_is_refused(metadata):
    with pytest.raises(DataError, match=r"metadata.parquet: tokens 1 draws no sample"):
        make_plan(metadata, config(context=1500, shares={"text": 1, "vl": 1}, tokens=1))


def test_the_same_input_gives_the_same_bytes(metadata, tmp_path):
    chosen = config(context=1500, ranks=2)
    for name in ("one", "two"):
        write_plan(tmp_path / name, make_plan(metadata, chosen), metadata, chosen)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["left_out.parquet", "manifest.json", "packs.parquet"]
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)
    write_plan(tmp_path / "one", make_plan(metadata, chosen), metadata, chosen)  # a repetition changes nothing
    other = config(context=1500, ranks=2, seed=1)
    with pytest.raises(DataError, match="holds another plan or something else"):
        write_plan(tmp_path / "one", make_plan(metadata, other), metadata, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metadata.parquet", "one", "two"]


def written(tmp_path, metadata, **settings) -> PlanReader:
    chosen = config(**{"context": 1500, **settings})
    write_plan(tmp_path / "plan", make_plan(metadata, chosen), metadata, chosen)
    return PlanReader(tmp_path / "plan")


@pytest.mark.parametrize("group_packs", [1, 30, 1024])
def test_a_run_reads_each_sample_once(metadata, tmp_path, monkeypatch, group_packs):
    monkeypatch.setattr(plan_file, "GROUP_PACKS", group_packs)
    reader = written(tmp_path, metadata, ranks=3, global_batch=6)
    seen = []
    for step in range(reader.steps):
        packs = reader.packs(step)
        assert len(packs) in (3, 6)
        for pack in packs:
            assert pack.tokens == metadata.tokens[list(pack.rows)].sum()
            assert pack.visual_tokens == metadata.visual_tokens[list(pack.rows)].sum()
            assert list(pack.ids) == [f"s{row:05d}" for row in pack.rows]
            seen += pack.ids
    rest = pq.read_table(tmp_path / "plan" / "left_out.parquet").to_pylist()
    assert sorted(seen + [row["id"] for row in rest]) == drawn_rows(ROWS)["id"]
    assert {row["reason"] for row in rest} <= set(LEFT_OUT)
    with pytest.raises(IndexError, match=f"step {reader.steps} of a plan with {reader.steps} steps"):
        reader.packs(reader.steps)


def test_a_changed_plan_is_refused(metadata, tmp_path):
    written(tmp_path, metadata)
    for name in ("packs.parquet", "left_out.parquet"):
        broken = tmp_path / f"broken_{name}"
        shutil.copytree(tmp_path / "plan", broken)
        content = bytearray((broken / name).read_bytes())
        content[len(content) // 2] ^= 1
        (broken / name).write_bytes(content)
        with pytest.raises(DataError, match="the plan was changed"):
            PlanReader(broken)
    with pytest.raises(DataError, match="no plan that can be read"):
        PlanReader(tmp_path)
    manifest = json.loads((tmp_path / "plan" / "manifest.json").read_text())
    (tmp_path / "plan" / "manifest.json").write_text(json.dumps(manifest | {"version": 9}))
    with pytest.raises(DataError, match="a plan of version 9, this program reads 2"):
        PlanReader(tmp_path / "plan")
