"""What a step trains on: planned and online, over epochs, resumed, and dealt to any number of ranks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pangu_rl.data.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.plan_file import PlanReader
from pretrain.train.loader import PackLoader
from pretrain.train.order import OnlineOrder, PackOrder, PlannedOrder, deal_packs
from pretrain.train.run import open_order
from tests.unit.pretrain.train.builders import plan, stage, write_rows


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


def online(folder: Path, model: Path, **data) -> OnlineOrder:
    config = stage(folder, model, data={"pool": 4} | data)
    files = open_rows(Path(config.data.train), on_bad_row="refuse")
    # Rows of 100 tokens, 60 of them visual in those of the second source: two to a pack of 256.
    return OnlineOrder(files, config, lambda index: (100, 60 if files.source(index) == "vl" else 0, 0), by_tokens)


def test_online_packs_hold_what_fits_and_every_row_comes_once_an_epoch(folder, tiny_vl_model):
    order = online(folder, tiny_vl_model)
    batches = [order.next_batch() for _ in range(10)]
    assert all(len(batch) == 2 and all(len(pack.rows) == 2 for pack in batch) for batch in batches)
    counts = Counter(rows_of(batches))
    assert max(counts.values()) <= 3 and len(counts) == 24


def test_sources_are_packed_apart_and_mixed_by_their_shares(folder, tiny_vl_model):
    order = online(folder, tiny_vl_model, shares={"vl": 3, "text": 1})
    source = open_rows(folder / "rows.jsonl", on_bad_row="refuse").source
    kinds = [{source(index) for index in pack.rows} for _ in range(8) for pack in order.next_batch()]
    assert all(len(kind) == 1 for kind in kinds)
    assert kinds.count({"vl"}) == 12


def test_online_packing_resumes_exactly(folder, tiny_vl_model):
    shares = {"shares": {"vl": 3, "text": 1}}
    order, again = online(folder, tiny_vl_model, **shares), online(folder, tiny_vl_model, **shares)
    for _ in range(3):
        order.next_batch()
    again.load_state_dict(json.loads(json.dumps(order.state_dict())))
    assert [again.next_batch() for _ in range(5)] == [order.next_batch() for _ in range(5)]


def test_shares_that_do_not_fit_the_rows_are_refused(folder, tiny_vl_model):
    with pytest.raises(ConfigError, match=r"has source 'text', which data.shares does not name"):
        online(folder, tiny_vl_model, shares={"vl": 1})
    with pytest.raises(ConfigError, match=r"data\.shares\.web is 1, but no row of"):
        online(folder, tiny_vl_model, shares={"vl": 1, "text": 0, "web": 1})
    order = online(folder, tiny_vl_model)
    with pytest.raises(ConfigError, match=r"has streams \['of a plan'\], this run \[''\]"):
        order.load_state_dict({"plan": "x", "data": "y", "step": 1})


def test_a_stream_without_a_row_that_fits_ends_with_a_reason(folder, tiny_vl_model, monkeypatch):
    monkeypatch.setattr("pretrain.train.order.FRUITLESS", 50)
    config = stage(folder, tiny_vl_model)
    order = OnlineOrder(open_rows(folder / "rows.jsonl", on_bad_row="refuse"), config, lambda index: None, by_tokens)
    with pytest.raises(DataError, match="none of the last 51 rows can be used"):
        order.next_batch()
    assert order.skipped == order.state_dict()["skipped"] == 51


def test_a_row_longer_than_a_pack_is_refused_or_left_out(folder, tiny_vl_model):
    """Rows with d.png have 140 tokens of it alone."""
    settings = {"learner": {"pack_tokens": 100}}
    files = open_rows(folder / "rows.jsonl", on_bad_row="refuse")
    order = open_order(config := stage(folder, tiny_vl_model, **settings), PackLoader(config, files))
    with pytest.raises(DataError, match=r"\d+ tokens are longer than a pack, learner.pack_tokens 100 .mend it"):
        [order.next_batch() for _ in range(20)]
    config = stage(folder, tiny_vl_model, **settings, data={"on_bad_row": "skip", "pool": 2})
    order = open_order(config, PackLoader(config, files))
    rows = rows_of([order.next_batch() for _ in range(20)])
    assert order.skipped >= 4
    assert not {index for index in rows if index % 6 == 4}


def test_a_plan_that_is_not_all_looked_through_at_the_start_is_refused_where_it_is_wrong(
    planned, tmp_path, tiny_vl_model, monkeypatch
):
    monkeypatch.setattr("pretrain.train.order.CHECKED_GROUPS", 0)
    write_rows(tmp_path, count=12)
    order = open_planned(stage(tmp_path, tiny_vl_model, data={"plan": planned.data.plan}))
    with pytest.raises(DataError, match=r"names sample 'r\d\d', which .*rows.jsonl has not"):
        [order.next_batch() for _ in range(PlanReader(Path(planned.data.plan)).steps)]
