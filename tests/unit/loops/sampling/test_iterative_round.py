"""A round of iterative fine-tuning: how its selection is dealt over steps, and where SIGTERM ends it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_rl.cluster.ray_runtime import Preemption
from pangu_rl.errors import Preempted
from pangu_rl.loops.sampling import iterative_round
from pangu_rl.loops.sampling.iterative_round import even_steps, run_round


@pytest.mark.parametrize(
    ("rows", "most", "dealt"), [(64, 64, (1, 64)), (65, 64, (2, 33)), (3, 64, (1, 3)), (130, 64, (3, 44))]
)
def test_a_selection_is_dealt_evenly(rows: int, most: int, dealt: tuple[int, int]) -> None:
    steps, sequences = even_steps(rows, most)
    assert (steps, sequences) == dealt
    assert 0 <= steps * sequences - rows < steps


def test_sigterm_in_the_last_shard_ends_the_round_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preemption = Preemption()

    def sampled(*_: Any) -> dict[str, Any]:
        preemption.requested = True
        return {}

    monkeypatch.setattr(iterative_round, "model_checksum", lambda model: "c")
    monkeypatch.setattr(iterative_round, "sample_round", sampled)
    monkeypatch.setattr(iterative_round, "select_rows", lambda *_: pytest.fail("it went on"))
    turn = SimpleNamespace(number=1, dir=tmp_path / "round_001", model=tmp_path)
    with pytest.raises(Preempted, match=r"the answers of round 1 are in .*; the same command goes on from there"):
        run_round(turn, preemption)
