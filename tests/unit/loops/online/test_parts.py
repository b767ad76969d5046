"""What a GRPO run does around its learner's ranks, without actors."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pangu_rl.errors import RankLost
from pangu_rl.loops.online import parts


@pytest.mark.parametrize("placement", ["split", "shared"])
def test_no_engine_is_given_the_weights_of_ranks_that_are_gone(placement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool is told before the ranks end, whose files in shared memory go with them."""
    told: list[str] = []

    @contextmanager
    def closing_ranks(learners, run):
        try:
            yield learners
        finally:
            told.append("ranks end")

    def says(*words: str) -> SimpleNamespace:
        return SimpleNamespace(**{word: lambda *_, word=word, **__: told.append(word) for word in words})

    monkeypatch.setattr(parts, "closing_ranks", closing_ranks)
    monkeypatch.setattr(parts, "Learners", lambda *_: SimpleNamespace(choose_transport=lambda *_, **__: None))
    own = SimpleNamespace(
        engines=SimpleNamespace(pool=says("sleep", "end_resending"), placement=None),
        config=SimpleNamespace(rollout=SimpleNamespace(placement=placement), trainer=SimpleNamespace(silence_s=1.0)),
        run=SimpleNamespace(milestone=lambda _: None, phase=dict, watchdog=SimpleNamespace(processes=None)),
        spec=SimpleNamespace(world_size=1, accelerator="cpu"),
        drawing=True,
        transport="shm",
        processes=dict,
    )
    with pytest.raises(RankLost), parts.GrpoParts.learning(own):
        raise RankLost("learner rank 0 died")
    assert told == ["sleep"] * (placement == "shared") + ["end_resending", "ranks end"]
