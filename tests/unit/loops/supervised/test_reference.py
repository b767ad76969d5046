"""Reference log-probs of a run: shared out over ranks, summed by response, continued, and left on SIGTERM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pangu_rl.cluster.ray_runtime import Preemption
from pangu_rl.config.load import checked
from pangu_rl.config.stages import DpoConfig
from pangu_rl.data.packs.batching import PairRow
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.packs.micro_batches import BY_TOKENS
from pangu_rl.data.pairs import Pair
from pangu_rl.data.reference import Reference, ReferenceIdentity, ReferenceStore
from pangu_rl.errors import Preempted
from pangu_rl.loops.supervised.reference import reference_log_probs
from pangu_rl.records import PackLike
from pangu_rl.storage.file_lock import held

PAIRS = [Pair(uid=f"p{i}", messages=(), chosen="", rejected="") for i in range(7)]


class CountingLearners:
    """Says that a token of id t has the log-prob -t / 4, and counts the calls."""

    dealing = BY_TOKENS

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def shared_log_probs(
        self, packs: Sequence[Sequence[PackLike]], temperature: float, adapted: bool
    ) -> list[list[np.ndarray]]:
        assert not adapted, "the reference is the model without its adapters"
        self.calls.append([len(own) for own in packs])
        laid_out = [[outline.lay_out() for outline in own] for own in packs]
        return [[(-pack.token_ids[pack.targets] / 4).astype(np.float32) for pack in own] for own in laid_out]


def row_of(pair: Pair) -> PairRow:
    """Of pair i: i + 1 chosen tokens of id 8, two rejected ones of id i."""
    index = int(pair.uid[1:])
    prompt = TrainingRow(token_ids=[1, 2, 3], trained=[False] * 3)
    return PairRow(prompt=prompt, chosen=[8] * (index + 1), rejected=[index] * 2)


def run_of(preempted_after: int = 100) -> Any:
    said: list[str] = []

    class Run:
        preempted = property(lambda self: len(said) >= preempted_after)
        preemption = Preemption()

        def phase(self, name: str, waiting: Callable[[], Sequence[str]] = tuple) -> Any:
            return nullcontext()

        def say(self, text: str) -> None:
            said.append(text)

        def stop(self) -> None:
            if self.preempted:
                raise Preempted(said[-1])

    return Run()


def compute(folder: Path, run: Any, learners: CountingLearners, ranks: int = 1) -> dict[str, Reference]:
    tree = {
        "model": {"path": "unused"},
        "data": {"train": "unused"},
        "learner": {"ranks": ranks, "pack_tokens": 16},
        "trainer": {"run_dir": str(folder), "steps": 1, "pairs_per_step": 3},
    }
    loader = SimpleNamespace(
        pairs=lambda pairs: list(map(row_of, pairs)), encoder=SimpleNamespace(placeholders=frozenset())
    )
    identity = ReferenceIdentity(model="m", dtype="bfloat16", pairs="f")
    store = ReferenceStore(folder / "reference.jsonl", identity, [pair.uid for pair in PAIRS], 3)
    inputs = SimpleNamespace(train=PAIRS, loader=loader)
    return dict(reference_log_probs(checked(DpoConfig, tree, "test"), run, inputs, store, learners))


@pytest.mark.parametrize("ranks", [1, 2])
def test_sums_of_every_response_whichever_rank_computes_it(tmp_path: Path, ranks: int) -> None:
    """Chosen: (i + 1) * -8/4. Rejected: 2 * -i/4. All ranks get the same number of packs."""
    learners = CountingLearners()
    found = compute(tmp_path, run_of(), learners, ranks)
    assert found == {f"p{i}": Reference(f"p{i}", -2.0 * (i + 1), -i / 2) for i in range(7)}
    assert len(learners.calls) == 3
    assert all(len(set(packs)) == 1 and len(packs) == ranks for packs in learners.calls)


def test_sigterm_leaves_after_the_chunk_and_the_same_command_goes_on(tmp_path: Path) -> None:
    whole = compute(tmp_path / "whole", run_of(), CountingLearners())
    with pytest.raises(Preempted, match=r"3 of 7 pairs are in .*reference.jsonl"):
        compute(tmp_path / "cut", run_of(preempted_after=1), CountingLearners())
    learners = CountingLearners()
    assert compute(tmp_path / "cut", run_of(), learners) == whole
    assert len(learners.calls) == 2
    files = [(tmp_path / name / "reference.jsonl").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_sigterm_ends_the_wait_for_another_run(tmp_path: Path) -> None:
    """It comes when the wait has been told."""
    path, learners = tmp_path / ".reference.jsonl.lock", CountingLearners()
    with held(path, print), pytest.raises(Preempted, match=r"reference\.jsonl\.lock is held by process \d+ on "):
        compute(tmp_path, run_of(preempted_after=1), learners)
    assert learners.calls == []


def test_a_whole_store_costs_no_forward_pass(tmp_path: Path) -> None:
    whole = compute(tmp_path, run_of(), CountingLearners())
    learners = CountingLearners()
    assert compute(tmp_path, run_of(), learners) == whole
    assert learners.calls == []
