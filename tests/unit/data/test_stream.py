"""The resumable order: which prompts come next after any interruption."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pangu_rl.data import PromptStream
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Prompt


def prompts(n: int, answer: str = "2") -> list[Prompt]:
    return [Prompt(uid=str(i), messages=({"role": "user", "content": "?"},), answer=answer) for i in range(n)]


def drawn(stream: PromptStream, n: int) -> list[tuple[int, str]]:
    return [(epoch, prompt.uid) for epoch, prompt in stream.next(n)]


def test_every_epoch_hands_out_every_row_once_in_an_order_of_its_own() -> None:
    stream = PromptStream(prompts(10), shuffle=True, seed=3)
    rows = drawn(stream, 30)
    orders = [[uid for e, uid in rows if e == epoch] for epoch in range(3)]
    assert all(sorted(order) == [str(i) for i in range(10)] for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_without_shuffling_rows_come_in_file_order_and_wrap() -> None:
    stream = PromptStream(prompts(3), shuffle=False, seed=0)
    assert drawn(stream, 7) == [(0, "0"), (0, "1"), (0, "2"), (1, "0"), (1, "1"), (1, "2"), (2, "0")]


@pytest.mark.parametrize("taken", range(9))
def test_resumed_after_any_number_of_rows_it_goes_on_as_if_uninterrupted(taken: int) -> None:
    """Epochs of 4 rows: 4 and 8 stop on the border."""
    whole = drawn(PromptStream(prompts(4), shuffle=True, seed=1), 20)
    first = PromptStream(prompts(4), shuffle=True, seed=1)
    before = drawn(first, taken)
    state = json.loads(json.dumps(first.state_dict()))
    second = PromptStream(prompts(4), shuffle=True, seed=1)
    second.load_state_dict(state)
    assert before + drawn(second, 20 - taken) == whole


def test_draw_sizes_do_not_change_the_order() -> None:
    one, other = (PromptStream(prompts(5), shuffle=True, seed=2) for _ in range(2))
    assert drawn(one, 12) == [row for n in (1, 0, 4, 7) for row in drawn(other, n)]


def test_seeds_differ() -> None:
    assert drawn(PromptStream(prompts(20), shuffle=True, seed=1), 20) != drawn(
        PromptStream(prompts(20), shuffle=True, seed=2), 20
    )


def test_resuming_with_other_data_or_another_order_is_refused() -> None:
    state = PromptStream(prompts(4), shuffle=True, seed=1).state_dict()
    for other in (prompts(5), prompts(4, answer="3"), prompts(4)[::-1]):
        with pytest.raises(DataError, match="made with other data: 4 rows"):
            PromptStream(other, shuffle=True, seed=1).load_state_dict(state)
    with pytest.raises(ConfigError, match="made with seed 1, now it is 2"):
        PromptStream(prompts(4), shuffle=True, seed=2).load_state_dict(state)
    with pytest.raises(ConfigError, match="made with shuffle True, now it is False"):
        PromptStream(prompts(4), shuffle=False, seed=1).load_state_dict(state)


def test_other_pictures_are_other_data() -> None:
    """The rows name the same path; what it holds has changed."""
    rows = [replace(row, images=("a.png",)) for row in prompts(4)]
    state = PromptStream(rows, shuffle=True, seed=1, digests={"a.png": "0f"}).state_dict()
    PromptStream(rows, shuffle=True, seed=1, digests={"a.png": "0f"}).load_state_dict(state)
    with pytest.raises(DataError, match="made with other data"):
        PromptStream(rows, shuffle=True, seed=1, digests={"a.png": "1e"}).load_state_dict(state)


def test_empty_set() -> None:
    with pytest.raises(DataError, match="empty"):
        PromptStream([], shuffle=True, seed=0)
