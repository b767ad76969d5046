"""A stalled phase is named once, with what it waits for; stacks of this process and of others are on disk."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pangu_rl.monitoring.phases import PhaseTimer
from pangu_rl.monitoring.watchdog import Process, Watchdog, dump_stacks


def test_a_stall_names_phase_actor_and_samples_once(tmp_path):
    messages, reported = [], threading.Event()

    def on_stall(message):
        messages.append(message)
        reported.set()

    phases = PhaseTimer()
    with (
        Watchdog(phases, 0.1, tmp_path, on_stall=on_stall),
        phases.phase("rollout", waiting=lambda: ["rollout actor 0 (pid 4711): 0:p3/1, 0:p3/2"]),
    ):
        assert reported.wait(10)
        time.sleep(0.2)
    assert len(messages) == 1
    assert "phase rollout runs for" in messages[0]
    assert "waiting for rollout actor 0 (pid 4711): 0:p3/1, 0:p3/2" in messages[0]
    assert "test_a_stall_names_phase_actor_and_samples_once" in (tmp_path / "stacks-rollout.txt").read_text()


def test_a_phase_in_time_is_not_reported(tmp_path):
    """Four phases of 0.08 s, looked at in their last moment, where 0.1 s would be a stall."""
    now, looked, messages = [0.0], threading.Event(), []

    def clock():
        if threading.current_thread().name == "watchdog":
            looked.set()
        return now[0]

    phases = PhaseTimer(clock)
    with Watchdog(phases, 0.1, tmp_path, on_stall=messages.append):
        for _ in range(4):
            with phases.phase("train"):
                now[0] += 0.08
                looked.clear()
                assert looked.wait(10)
    assert messages == []
    assert list(tmp_path.iterdir()) == []


def test_callables_that_fail_do_not_end_the_watch(tmp_path):
    reported = []
    done = threading.Event()
    phases = PhaseTimer()

    def broken():
        raise RuntimeError("actor died")

    def on_stall(message):
        reported.append(message)
        done.set()

    with Watchdog(phases, 0.05, tmp_path, processes=broken, on_stall=on_stall), phases.phase("sync", waiting=broken):
        assert done.wait(10)
    assert "something that cannot tell (RuntimeError('actor died'))" in reported[0]


def test_long_lists_are_cut(tmp_path):
    reported, done = [], threading.Event()
    phases = PhaseTimer()
    with (
        Watchdog(phases, 0.05, tmp_path, on_stall=lambda m: (reported.append(m), done.set())),
        phases.phase("rollout", waiting=lambda: [f"sample {i}" for i in range(20)]),
    ):
        assert done.wait(10)
    assert "sample 7; and 12 more; stacks in" in reported[0]


def test_stacks_of_another_process(tmp_path):
    code = "import time\ndef lingering():\n    print('ready', flush=True)\n    time.sleep(60)\nlingering()"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "ready\n"
        here = Process.here()
        processes = {"rollout actor 0": here._replace(pid=other.pid), "learner rank 9": Process("another-node", 4711)}
        dump_stacks(tmp_path / "stacks.txt", processes)
    finally:
        other.kill()
        other.wait()
    text = (tmp_path / "stacks.txt").read_text()
    assert f"== rollout actor 0, pid {other.pid} on {here.host} ==" in text
    assert "== learner rank 9, pid 4711 on another-node ==\nlook there: py-spy dump --pid 4711\n" in text
    if "ermission" in text:
        pytest.skip("py-spy may not look into processes here")
    assert "lingering" in text


def test_phases_add_up_and_nest():
    now = [0.0]
    phases = PhaseTimer(lambda: now[0])
    for seconds in (2.0, 3.0):
        with phases.phase("rollout"):
            now[0] += seconds
            with phases.phase("evaluate"):
                assert phases.current.name == "evaluate"
                now[0] += 1.0
            assert phases.current.name == "rollout"
    assert phases.current is None
    assert phases.take() == {"time/evaluate": 2.0, "time/rollout": 7.0}
    assert phases.take() == {}
