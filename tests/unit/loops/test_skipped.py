"""A step that was left out says in the log which rows it had, and a step that was not says nothing."""

from __future__ import annotations

import logging

import pytest

from pangu_rl.loops.skipped import log_skipped


def test_the_rows_of_a_skipped_step_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log_skipped(3, 0.0, ["a"])
        assert not caplog.messages
        log_skipped(4, 0.5, (f"row {number}" for number in range(3)))
    assert caplog.messages == ["step 4: a gradient was not finite, the weights stay; its rows: row 0, row 1, row 2"]
