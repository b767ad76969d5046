"""Threads from the cores that a process may use, not from those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pangu_rl.accelerators.threads import threads_each


@pytest.mark.parametrize(("processes", "threads"), [(1, 4), (2, 2), (3, 1), (4, 1), (9, 1)])
def test_the_cores_are_shared_and_nobody_has_none(
    monkeypatch: pytest.MonkeyPatch, processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    assert threads_each(processes) == threads


def test_a_process_bound_to_one_core_has_one_thread() -> None:
    core = min(os.sched_getaffinity(0))
    code = "from pangu_rl.accelerators.threads import threads_each; print(threads_each(1))"
    bound = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert bound.stdout.strip() == "1"
