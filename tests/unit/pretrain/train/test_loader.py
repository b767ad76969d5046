"""Rows become packs when they are due, with their counts; what cannot be used ends the run or is named."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.learner.measure.flops import ModelFlops, loaded_config
from pretrain.packing.plan_file import PlanReader
from pretrain.processing.pictures import picture_size
from pretrain.train.loader import PackLoader
from pretrain.train.measure import write_sizes
from pretrain.train.order import PackOrder
from pretrain.train.run import open_order
from pretrain.train.watch import SpikeWatch
from tests.family_builders import build_tiny_family
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.train.builders import SIZES, measured_by, plan, stage, write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("rows")
    write_rows(home)
    return home


def open_loader(folder: Path, model: Path, **data) -> PackLoader:
    config = stage(folder, model, data=data)
    return PackLoader(config, open_rows(Path(config.data.train), on_bad_row=config.data.on_bad_row))


def test_a_pack_holds_its_rows_in_order_and_counts_them(folder, tiny_vl_model):
    loader = open_loader(folder, tiny_vl_model)
    [pack, empty], counts = loader.load([PackOrder((2, 0, 1), 0.0), PackOrder((), 0.0)])
    sizes = [loader.sizes(index)[0] for index in (2, 0, 1)]
    assert np.diff(pack.segment_starts).tolist() == sizes
    assert [picture.path for picture in pack.pictures] == ["b.png", "c.png", "a.png"]
    assert (len(empty.targets), empty.position_ids.shape) == (0, (3, 1))
    targets = np.unique(pack.sequence_ids, return_counts=True)[1]
    assert counts.tokens == pack.num_tokens == sum(sizes)
    assert (counts.targets, counts.sequences) == (targets.sum(), 3)
    assert counts.roots == pytest.approx(sum(math.sqrt(n) for n in targets))
    assert counts.seen.samples == {"vl": 2, "text": 1}
    assert counts.seen.tokens == {"vl": sizes[0] + sizes[2], "text": sizes[1]}
    assert (counts + counts).seen.samples == {"vl": 4, "text": 2}


def test_each_header_is_read_once_when_rows_are_measured(tmp_path, tiny_vl_model, monkeypatch):
    read = []

    def noted(path: str, root: Path) -> tuple[int, int]:
        read.append(path)
        return picture_size(path, root)

    monkeypatch.setattr("pangu_rl.data.pictures.picture_size", noted)
    write_rows(tmp_path, count=6)
    write_sizes(stage(tmp_path, tiny_vl_model), tmp_path / "sizes.parquet")
    assert read == ["a.png", "b.png", "c.png", "d.png", "c.png"]


def test_a_family_whose_tokens_are_single_patches(tmp_path):
    """LLaVA cuts 4 x 4 patches of 14 pixels out of any picture: 16 tokens and patches, 256 pairs. A line is refused."""
    model = build_tiny_family(tmp_path / "llava", "llava")
    draw(tmp_path / "media" / "a.png", 84, 112)
    draw(tmp_path / "media" / "line.png", 1, 201)
    rows = [{"id": name, "document": "a", "images": [f"{name}.png"]} for name in ("a", "line")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loader = open_loader(tmp_path, model)
    [sound, line], _ = loader.measure([0, 1])
    assert (sound.visual_tokens, sound.patches, sound.patch_pairs) == (16, 16, 256)
    assert "row 2 (line): picture 'line.png': 1 x 201 pixels: the aspect ratio 201.0 is over the limit of 200" in line
    with pytest.raises(ConfigError, match="not those of llava: pack online"):
        write_sizes(stage(tmp_path, model), tmp_path / "sizes.parquet")


def test_the_plan_and_the_loader_agree_on_every_pack_to_the_token(folder, tiny_vl_model):
    """Otherwise packs would overflow, or hold less than they could."""
    config = stage(folder, tiny_vl_model)
    reader = PlanReader(plan(config, folder))
    loader = open_loader(folder, tiny_vl_model)
    rows = {row["id"]: row for row in pq.read_table(folder / "sizes.parquet").to_pylist()}
    assert rows["r02"]["width"] == [SIZES["b"][0], SIZES["c"][0]]
    for step in range(reader.steps):
        for planned in reader.packs(step):
            order = PackOrder(tuple(loader.files.rows_of(planned.ids).tolist()), 0.0)
            [pack], _ = loader.load([order])
            assert pack.num_tokens == planned.tokens
            assert len(pack.picture_tokens) == planned.visual_tokens


def test_what_a_plan_or_a_stream_knows_of_a_pack_gives_its_flops(folder, tiny_vl_model):
    """But for the head, which sizes let run on every token, and for a picture that a pack shows twice."""
    loader = open_loader(folder, tiny_vl_model)
    flops = ModelFlops.of(loaded_config(tiny_vl_model, trust_remote_code=False))
    online = stage(folder, tiny_vl_model)
    planned = stage(folder, tiny_vl_model, data={"plan": str(plan(online, folder))})
    for config in (planned, online):
        exact, steps = 0, open_order(config, loader)
        for order in [order for _ in range(2) for order in steps.next_batch(measured_by(loader))]:
            [pack], _ = loader.load([order])
            head = 3 * flops.per_target * (pack.num_tokens - len(pack.targets))
            found = order.load - head
            expected = flops.of_training(pack, ("encoder", "connector", "language"))
            assert order.tokens == pack.num_tokens
            assert found >= expected * (1 - 1e-9)
            if len({picture.sha256 for picture in pack.pictures}) == len(pack.pictures) > 0:
                assert found == pytest.approx(expected, rel=1e-9)
                exact += 1
        assert exact


def test_packs_that_share_a_micro_batch_are_merged_and_counted_as_before(folder, tiny_vl_model):
    orders = [PackOrder((2, 0), 0.0), PackOrder((1,), 0.0), PackOrder((5,), 0.0)]
    packs, expected = open_loader(folder, tiny_vl_model).load(orders)
    merged, counts = open_loader(folder, tiny_vl_model).load_merged([orders[:2], orders[2:], [], [PackOrder((), 0.0)]])
    assert counts == replace(expected, packs=4), "the one without rows is a pack too"
    assert [pack.num_tokens for pack in merged] == [
        packs[0].num_tokens + packs[1].num_tokens,
        packs[2].num_tokens,
        1,
        1,
    ]
    assert np.unique(merged[0].columns["pack_ids"]).tolist() == [0, 1]
    assert merged[2].position_ids.shape == (3, 1)


def test_rows_that_were_measured_make_the_packs_of_rows_that_are_read(folder, tiny_vl_model, monkeypatch):
    loader = open_loader(folder, tiny_vl_model)
    orders = [PackOrder((2, 0), 0.0), PackOrder((1, 5), 0.0)]
    [plain, second], expected = loader.load(orders)
    samples, kept = loader.measure([0, 1, 2, 5])
    assert [sample.tokens for sample in samples] == [loader.sizes(index)[0] for index in (0, 1, 2, 5)]
    monkeypatch.setattr(loader, "_encoded", None)  # each row is encoded once
    found, counts = loader.load(orders, kept)
    assert counts == expected
    for ours, theirs in zip(found, (plain, second), strict=True):
        for name in ("token_ids", "position_ids", "targets", "predictors", "picture_tokens", "segment_starts"):
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        assert [p.patches.tobytes() for p in ours.pictures] == [p.patches.tobytes() for p in theirs.pictures]


def test_a_picture_that_changes_its_size_between_measuring_and_loading_is_a_bad_row(tmp_path, tiny_vl_model):
    write_rows(tmp_path, count=6)
    loader = open_loader(tmp_path, tiny_vl_model)
    _, kept = loader.measure([1])
    draw(tmp_path / "media" / "a.png", 112, 112, seed=0)
    with pytest.raises(DataError, match=r"row 2 \(r01\): picture 'a.png' has .1, 8, 8. patches and had .1, 4, 4. when"):
        loader.load([PackOrder((1,), 0.0)], kept)


def test_a_row_too_many_is_refused_or_named(folder, tiny_vl_model):
    order = PackOrder((4, 10), 0.0)
    with pytest.raises(DataError, match=r"row 11 \(r10\): \d+ tokens behind \d+ others exceed the 256"):
        open_loader(folder, tiny_vl_model).load([order])
    [pack], counts = open_loader(folder, tiny_vl_model, on_bad_row="skip").load([order])
    assert len(pack.segment_parents) == 1
    assert len(counts.skipped) == 1


def test_a_missing_picture_and_a_bad_row_are_refused_or_named(tmp_path, tiny_vl_model):
    path = write_rows(tmp_path, count=6)
    bad = [{"id": "bad", "prompt": "p"}, {"id": "gone", "prompt": "p", "response": "r", "images": ["none.png"]}]
    path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in bad))
    orders = [PackOrder((0, 6, 7), 0.0)]
    with pytest.raises(DataError, match=r"row 7 \(bad\): key response is missing.*on_bad_row to skip"):
        open_loader(tmp_path, tiny_vl_model).load(orders)
    [pack], counts = open_loader(tmp_path, tiny_vl_model, on_bad_row="skip").load(orders)
    assert len(pack.segment_parents) == 1
    assert "row 8 (gone)" in counts.skipped[1] and "none.png" in counts.skipped[1]
    assert counts.seen.samples == {"text": 1}


def test_the_stages_limits_win_over_the_processors(folder, tiny_vl_model):
    loader = open_loader(folder, tiny_vl_model, min_pixels=56 * 56, max_pixels=10_000)
    [(_, rows, columns)] = loader.sizes(4)[1]
    assert rows * columns * 14**2 <= 10_000


def test_a_spike_is_told_and_forgotten_and_a_trend_is_none():
    watch = SpikeWatch(2.0)
    assert [watch.judge(loss) for loss in [9.0, *[1.0] * 8, 1.2]] == [None] * 10
    assert watch.judge(2.1) == 1.0
    assert watch.judge(float("nan")) == 1.0
    assert watch.judge(1.9) is None
    again = SpikeWatch(2.0)
    again.load_state_dict(watch.state_dict())
    assert again.judge(2.1) == 1.0
    assert SpikeWatch(None).judge(1e9) is None


def test_a_rise_that_lasts_becomes_usual_and_no_number_never_is():
    """Ten losses of 1 are the median until ten of 4 are: of ten and ten it is 2.5, which 4 is not twice as much as."""
    watch = SpikeWatch(2.0)
    assert [watch.judge(loss) for loss in (float("nan"), *[1.0] * 10)] == [None] * 11
    assert [watch.judge(4.0) for _ in range(12)] == [1.0] * 10 + [None] * 2
    assert watch.judge(float("inf")) == 4.0


def test_a_document_is_measured_planned_and_packed_like_any_row(tmp_path, tiny_vl_model):
    path = write_rows(tmp_path, count=2)
    document = {"id": "doc", "document": ["A red", {"type": "image"}, " thing."], "images": ["b.png"]}
    path.write_text(path.read_text() + json.dumps(document) + "\n")
    loader = open_loader(tmp_path, tiny_vl_model)
    [pack], counts = loader.load([PackOrder((2,), 0.0)])
    assert pack.num_tokens == loader.sizes(2)[0]
    assert counts.targets == pack.num_tokens - 12 - 2 - 1, "all but the picture, its marks and the first token"
