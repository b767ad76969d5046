"""The loop's bookkeeping, with loaders in this process: what is prepared ahead is not consumed yet."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_rl.data.files.row_files import open_rows
from pretrain.train import run as whole
from pretrain.train.loader import Counts, PackLoader
from pretrain.train.order import PackOrder, deal_packs
from pretrain.train.run import PretrainParts, open_order
from pretrain.train.watch import SpikeWatch
from tests.unit.pretrain.train.builders import MeasuredHere, measured_by, plan, stage, write_rows


@dataclass
class HereLoaders:
    """`Loaders` without processes."""

    loader: PackLoader
    ranks: int

    def measure(self, rows: Sequence[int]) -> MeasuredHere:
        return measured_by(self.loader)(rows)

    def load(self, batch: list[PackOrder]) -> tuple[list[Any], Counts]:
        kept = {index: row for order in batch for chunk in order.kept for index, row in chunk.items()}
        loaded = [self.loader.load_merged(own, kept) for own in deal_packs(batch, self.ranks)]
        return [packs for packs, _ in loaded], reduce(add, [counts for _, counts in loaded])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("rows")
    write_rows(home)
    return home


def open_parts(folder: Path, model: Path, ranks: int, **sections) -> PretrainParts:
    config = stage(folder, model, **sections)
    loader = PackLoader(config, open_rows(Path(config.data.train), on_bad_row="refuse"))
    return PretrainParts(
        config=config,
        order=open_order(config, loader),
        loaders=HereLoaders(loader, ranks),
        learners=None,
        watch=SpikeWatch(2.0),
    )


def tokens_of(handles: list[Any]) -> list[list[int]]:
    """The packs of all ranks as ids, in no order."""
    return sorted(pack.token_ids.tolist() for own in handles for pack in own)


@pytest.mark.parametrize("mode", ["plan", "online"])
def test_a_step_prepared_ahead_comes_again_after_a_restart_on_another_number_of_ranks(folder, tiny_vl_model, mode):
    data = {"shares": {"vl": 3, "text": 1}, "pool": 3}
    if mode == "plan":
        data = {"plan": str(plan(stage(folder, tiny_vl_model), folder))}
    parts = open_parts(folder, tiny_vl_model, 1, data=data)
    parts.next_batch()
    parts.next_batch()
    parts.watch.judge(3.0)
    parts.prepare()
    saved = json.dumps(parts.state_dict())
    seen = copy.deepcopy(parts.seen)

    again = open_parts(folder, tiny_vl_model, 2, data=data)
    again.load_state_dict(json.loads(saved))
    assert again.seen == seen and seen.samples.total() > 4
    assert again.watch.state_dict() == [3.0]
    for _ in range(3):
        expected, counts = parts.next_batch()
        found, theirs = again.next_batch()
        assert tokens_of(found) == tokens_of(expected)
        assert (theirs.targets, theirs.sequences) == (counts.targets, counts.sequences)
        assert theirs.roots == pytest.approx(counts.roots)
        assert again.metrics(theirs) == parts.metrics(counts)


def test_fill_is_of_the_packs_that_a_step_has(folder, tiny_vl_model):
    """Two packs of 256 tokens a step; the last of a plan may have one, here with 200 tokens."""
    parts = open_parts(folder, tiny_vl_model, 2)
    _, counts = parts.next_batch()
    assert counts.packs == 2 and parts.metrics(counts)["data/fill"] == counts.tokens / 512
    assert parts.metrics(Counts(packs=1, tokens=200))["data/fill"] == 200 / 256


def test_every_rank_trains_on_as_many_packs(folder, tiny_vl_model):
    handles, _ = open_parts(folder, tiny_vl_model, 2).next_batch()
    assert [len(own) for own in handles] == [1, 1]


def test_a_loss_beyond_the_trainers_factor_is_said_and_counted(tmp_path, monkeypatch):
    """Ten losses of 2 and a factor of 3: 5.9 is no spike, 6.1 is one. Nothing is read or trained."""
    losses = iter([2.0] * 10 + [5.9, 6.1])
    learners = SimpleNamespace(update_from=lambda batches: [{"nll": next(losses), "skipped": 0.0}])
    loaders = SimpleNamespace(load=lambda batch: ([[]], Counts(packs=1)), measure=None, close=list)
    order = SimpleNamespace(next_batch=lambda _: [], look_ahead=lambda _: None, state_dict=dict, skipped=0)
    monkeypatch.setattr(whole, "Loaders", lambda *_: loaders)
    monkeypatch.setattr(whole, "open_learners", lambda *_: nullcontext(learners))
    said = []
    run = SimpleNamespace(placed=nullcontext, phase=nullcontext, say=said.append)
    loader = SimpleNamespace(files=SimpleNamespace(left_out=0))
    config = stage(tmp_path, Path("m"), trainer={"loss_spike": 3.0, "steps": 12})
    with whole.open_parts(config, run, loader, order) as parts:
        parts.prepare()
        rows = [parts.train_step(run, step) for step in range(1, 13)]
    assert [row["train/loss_spike"] for row in rows] == [0.0] * 11 + [1.0]
    assert said == ["step 12: the loss 6.100 is a spike, the median of the last steps is 2.000"]
