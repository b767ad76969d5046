"""What a step trains on: planned and online, over epochs, resumed, and dealt to any number of ranks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.online import StreamSample
from pretrain.packing.plan_file import PlanReader
from pretrain.train.loader import PackLoader
from pretrain.train.measured import CHUNK, Measure
from pretrain.train.online import OnlineOrder
from pretrain.train.order import PackOrder, PlannedOrder, deal_packs
from pretrain.train.run import open_order
from tests.unit.pretrain.train.builders import measured_as, measured_by, plan, stage, write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("rows")
    write_rows(home)
    return home


@pytest.fixture(scope="module")
def planned(folder, tiny_vl_model):
    config = stage(folder, tiny_vl_model)
    return stage(folder, tiny_vl_model, data={"plan": str(plan(config, folder))})


def by_tokens(tokens: int, token_pairs: float, patches: int, patch_pairs: float) -> float:
    return float(tokens)


def open_planned(config) -> PlannedOrder:
    return PlannedOrder(
        PlanReader(Path(config.data.plan)), open_rows(Path(config.data.train), on_bad_row="refuse"), config, by_tokens
    )


def rows_of(batches: list[list[PackOrder]]) -> list[int]:
    return [index for batch in batches for order in batch for index in order.rows]


def test_a_plan_is_followed_epoch_after_epoch_each_row_once(planned):
    order = open_planned(planned)
    steps = PlanReader(Path(planned.data.plan)).steps
    assert steps >= 2
    first, second = ([order.next_batch() for _ in range(steps)] for _ in range(2))
    assert first == second
    assert len(rows_of(first)) == len(set(rows_of(first))) >= 20


def test_a_resumed_plan_goes_on_where_it_was(planned):
    order, again = open_planned(planned), open_planned(planned)
    order.next_batch()
    again.load_state_dict(json.loads(json.dumps(order.state_dict())))
    assert [again.next_batch() for _ in range(3)] == [order.next_batch() for _ in range(3)]


def test_a_state_of_another_plan_or_other_rows_is_refused(planned):
    order = open_planned(planned)
    for name in ("plan", "data"):
        with pytest.raises(DataError, match=f"made with {name} of digest other, now it is"):
            order.load_state_dict(order.state_dict() | {name: "other"})


def test_every_number_of_ranks_trains_on_the_same_packs(planned):
    batch = open_planned(planned).next_batch()
    for ranks in (1, 2, 3):
        dealt = deal_packs(batch, ranks)
        assert len({len(own) for own in dealt}) == 1
        assert sorted(order.rows for own in dealt for orders in own for order in orders) == sorted(
            order.rows for order in batch
        )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trainer": {"packs_per_step": 4}}, "has 2 packs a step, trainer.packs_per_step is 4"),
        ({"learner": {"pack_tokens": 255}}, "has packs of 256 tokens, learner.pack_tokens is 255"),
        ({"data": {"min_pixels": 3136, "max_pixels": 9000}}, "packed for pictures of 3136 to 200704 pixels"),
        ({"data": {"visual_tokens": 200}}, "has packs of up to 256 visual tokens, data.visual_tokens is 200"),
    ],
)
def test_a_plan_for_another_stage_is_refused(folder, planned, tiny_vl_model, sections, message):
    sections = {"data": {}} | sections
    sections["data"] |= {"plan": planned.data.plan}
    config = stage(folder, tiny_vl_model, **sections)
    loader = PackLoader(config, open_rows(Path(config.data.train), on_bad_row="refuse"))
    with pytest.raises(ConfigError, match=message):
        open_order(config, loader)


def test_a_plan_of_other_rows_is_refused(planned, tmp_path, tiny_vl_model):
    write_rows(tmp_path, count=12)
    config = stage(tmp_path, tiny_vl_model, data={"plan": planned.data.plan})
    with pytest.raises(DataError, match=r"names sample 'r\d\d', which .*rows.jsonl has not"):
        open_planned(config)


@dataclass
class Online:
    """Rows of 100 tokens, 60 of them visual in those of the second source: two to a pack of 256."""

    order: OnlineOrder
    measure: Measure

    def next_batch(self) -> list[PackOrder]:
        batch = self.order.next_batch(self.measure)
        self.order.look_ahead(self.measure)
        return batch


def online(folder: Path, model: Path, **data) -> Online:
    config = stage(folder, model, data={"pool": 4} | data)
    files = open_rows(Path(config.data.train), on_bad_row="refuse")
    order = OnlineOrder(files, config, by_tokens)
    return Online(order, measured_as(lambda row: StreamSample(row, 100, 60 if files.source(row) == "vl" else 0, 0)))


def test_online_packs_hold_what_fits_and_every_row_comes_once_an_epoch(folder, tiny_vl_model):
    """Ten batches are 40 of twice 24 rows."""
    order = online(folder, tiny_vl_model)
    batches = [order.next_batch() for _ in range(10)]
    assert all(len(batch) == 2 and all(len(pack.rows) == 2 for pack in batch) for batch in batches)
    counts = Counter(rows_of(batches))
    assert max(counts.values()) == 2 and len(counts) == 24


def test_sources_are_packed_apart_and_mixed_by_their_shares(folder, tiny_vl_model):
    order = online(folder, tiny_vl_model, shares={"vl": 3, "text": 1})
    source = open_rows(folder / "rows.jsonl", on_bad_row="refuse").source
    kinds = [{source(index) for index in pack.rows} for _ in range(8) for pack in order.next_batch()]
    assert all(len(kind) == 1 for kind in kinds)
    assert kinds.count({"vl"}) == 12


def test_the_load_of_a_pack_is_of_the_patches_that_its_rows_have(folder, tiny_vl_model):
    """Two rows of 60 visual tokens each, one patch a token."""
    config = stage(folder, tiny_vl_model, data={"pool": 4})
    files = open_rows(Path(config.data.train), on_bad_row="refuse")
    order = OnlineOrder(files, config, lambda tokens, pairs, patches, patch_pairs: float(patches))
    batch = order.next_batch(measured_as(lambda row: StreamSample(row, 100, 60, 0, patches=60)))
    assert [pack.load for pack in batch] == [120.0, 120.0]


def test_online_packing_resumes_exactly(folder, tiny_vl_model):
    shares = {"shares": {"vl": 3, "text": 1}}
    order, again = online(folder, tiny_vl_model, **shares), online(folder, tiny_vl_model, **shares)
    for _ in range(3):
        order.next_batch()
    again.order.load_state_dict(json.loads(json.dumps(order.order.state_dict())))
    assert [again.next_batch() for _ in range(5)] == [order.next_batch() for _ in range(5)]


def test_shares_that_do_not_fit_the_rows_are_refused(folder, tiny_vl_model):
    with pytest.raises(ConfigError, match=r"has source 'text', which data.shares does not name"):
        online(folder, tiny_vl_model, shares={"vl": 1})
    with pytest.raises(ConfigError, match=r"data\.shares\.web is 1, but no row of"):
        online(folder, tiny_vl_model, shares={"vl": 1, "text": 0, "web": 1})
    order = online(folder, tiny_vl_model)
    with pytest.raises(ConfigError, match=r"has streams \['of a plan'\], this run \[''\]"):
        order.order.load_state_dict({"plan": "x", "data": "y", "step": 1})


def test_a_stream_without_a_row_that_fits_ends_with_a_reason(folder, tiny_vl_model, monkeypatch):
    monkeypatch.setattr("pretrain.train.online.FRUITLESS", 50)
    config = stage(folder, tiny_vl_model, data={"on_bad_row": "skip"})
    order = OnlineOrder(open_rows(folder / "rows.jsonl", on_bad_row="refuse"), config, by_tokens)
    with pytest.raises(DataError, match="none of the last 51 rows can be used"):
        order.next_batch(measured_as(lambda row: f"row {row} is bad"))
    assert order.skipped == order.state_dict()["skipped"] == 51


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learner": {"pack_tokens": 100}}, r"\d+ tokens are longer than a pack, learner.pack_tokens 100 .mend it"),
        ({"data": {"visual_tokens": 100}}, r"154 visual tokens are more than a pack may have, data.visual_tokens 1"),
    ],
)
def test_a_row_that_fits_into_no_pack_is_refused_or_left_out(folder, tiny_vl_model, settings, message):
    """Rows with d.png have 140 tokens of it alone."""
    files = open_rows(folder / "rows.jsonl", on_bad_row="refuse")
    loader = PackLoader(config := stage(folder, tiny_vl_model, **settings), files)
    order = open_order(config, loader)
    with pytest.raises(DataError, match=message):
        [order.next_batch(measured_by(loader)) for _ in range(20)]
    data = settings.get("data", {}) | {"on_bad_row": "skip", "pool": 2}
    loader = PackLoader(config := stage(folder, tiny_vl_model, **settings | {"data": data}), files)
    order = open_order(config, loader)
    rows = rows_of([order.next_batch(measured_by(loader)) for _ in range(20)])
    assert order.skipped >= 4
    assert not {index for index in rows if index % 6 == 4}


def test_no_pack_has_more_visual_tokens_than_it_may(folder, tiny_vl_model):
    """Rows of 60 visual tokens and two to a pack without a cap; packs of one where 100 are the most."""
    assert len(online(folder, tiny_vl_model, shares={"vl": 1, "text": 0}).next_batch()[0].rows) == 2
    order = online(folder, tiny_vl_model, shares={"vl": 1, "text": 0}, visual_tokens=100)
    assert {len(pack.rows) for _ in range(5) for pack in order.next_batch()} == {1}


def test_each_row_is_measured_once_and_before_its_turn(folder, tiny_vl_model):
    """Of what a step takes, all but the first step's was asked for beforehand."""
    run = online(folder, tiny_vl_model)
    asked: list[int] = []
    inner = run.measure
    run.measure = lambda rows: (asked.extend(rows), inner(rows))[1]
    batches = []
    for step in range(12):
        before = len(asked)
        batches.append(run.order.next_batch(run.measure))
        assert step == 0 or len(asked) == before
        run.order.look_ahead(run.measure)
    taken = len(rows_of(batches)) + 4
    assert taken <= len(asked) <= taken + 2 * CHUNK


def test_packs_say_where_their_rows_are_kept_until_a_restart(tmp_path, tiny_vl_model):
    write_rows(tmp_path, count=3 * CHUNK)
    files = open_rows(tmp_path / "rows.jsonl", on_bad_row="refuse")
    loader = PackLoader(config := stage(tmp_path, tiny_vl_model, data={"pool": 4}), files)
    order, again = (open_order(config, loader) for _ in range(2))
    state = json.loads(json.dumps(order.state_dict()))
    for step in range(3):
        batch = order.next_batch(measured_by(loader))
        assert all(any(row in chunk for chunk in pack.kept) for pack in batch for row in pack.rows)
        state = state if step else json.loads(json.dumps(order.state_dict()))
    again.load_state_dict(state)
    batch = again.next_batch(measured_by(loader))
    assert any(not any(row in chunk for chunk in pack.kept) for pack in batch for row in pack.rows)


def test_a_plan_that_is_not_all_looked_through_at_the_start_is_refused_where_it_is_wrong(
    planned, tmp_path, tiny_vl_model, monkeypatch
):
    monkeypatch.setattr("pretrain.train.order.CHECKED_GROUPS", 0)
    write_rows(tmp_path, count=12)
    order = open_planned(stage(tmp_path, tiny_vl_model, data={"plan": planned.data.plan}))
    with pytest.raises(DataError, match=r"names sample 'r\d\d', which .*rows.jsonl has not"):
        [order.next_batch() for _ in range(PlanReader(Path(planned.data.plan)).steps)]
