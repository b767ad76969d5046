"""The state of the preference stage: SFT rows that came or went since the run began are no small change."""

from __future__ import annotations

from typing import Any

import pytest

from pangu_rl.data.conversations import Conversation
from pangu_rl.data.pairs import Pair
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import ConfigError
from pangu_rl.loops.supervised.run_preference import PreferenceParts

PAIRS = [Pair(uid=f"p{i}", messages=(), chosen="a", rejected="b") for i in range(3)]
ROWS = [Conversation(uid=f"c{i}", messages=()) for i in range(3)]


def parts(sft: bool) -> PreferenceParts:
    order: dict[str, Any] = {"shuffle": True, "seed": 0, "digests": {}}
    return PreferenceParts(
        config=None,
        loader=None,
        pairs=PromptStream(PAIRS, **order),
        sft=PromptStream(ROWS, **order) if sft else None,
        reference={},
        learners=None,
    )


def test_both_streams_go_on_where_they_were() -> None:
    first, second = parts(sft=True), parts(sft=True)
    first.pairs.next(2)
    first.sft.next(1)
    second.load_state_dict(first.state_dict())
    assert (second.pairs.next(3), second.sft.next(3)) == (first.pairs.next(3), first.sft.next(3))


@pytest.mark.parametrize(
    ("before", "message"), [(True, "were mixed in .* now not"), (False, "not mixed in .* they are")]
)
def test_sft_rows_that_came_or_went_are_refused(before: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parts(sft=not before).load_state_dict(parts(sft=before).state_dict())
