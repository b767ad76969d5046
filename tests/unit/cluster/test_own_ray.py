"""A run whose own Ray has lost a process says which."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import ray

from pangu_rl.cluster.own_ray import require_own_ray
from pangu_rl.errors import RunError


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A node's, as Ray keeps them."""
    running = {kind: subprocess.Popen(["sleep", "60"]) for kind in ("gcs_server", "raylet", "log_monitor")}
    kept = {kind: [SimpleNamespace(process=process)] for kind, process in running.items()}
    monkeypatch.setattr(ray._private.worker, "_global_node", SimpleNamespace(all_processes=kept))
    yield running
    for process in running.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize(("kind", "name"), [("gcs_server", "head"), ("raylet", "raylet")])
def test_what_the_run_cannot_go_on_without_is_named_and_logged_at_once(
    processes: dict[str, subprocess.Popen[bytes]], caplog: pytest.LogCaptureFixture, kind: str, name: str
) -> None:
    processes["log_monitor"].kill()
    processes["log_monitor"].wait()
    require_own_ray()
    processes[kind].kill()
    processes[kind].wait()
    line = rf"^the {name} of the run's own Ray \({kind}, pid {processes[kind].pid}\) ended with -9; the same command"
    with caplog.at_level(logging.ERROR), pytest.raises(RunError, match=line) as raised:
        require_own_ray()
    assert caplog.messages == [str(raised.value)]


@pytest.mark.parametrize("node", [None, SimpleNamespace(all_processes={})])
def test_a_cluster_that_was_joined_is_not_ours_to_watch(monkeypatch: pytest.MonkeyPatch, node: object) -> None:
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    require_own_ray()
