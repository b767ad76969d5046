"""A `ray start --head` of its own for tests: ports, temporary directory, home and token."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Head:
    """A cluster on loopback."""

    address: str
    """Of its dashboard."""
    environment: dict[str, str]
    """What a client needs to be let in."""


@contextmanager
def head(folder: Path) -> Iterator[Head]:
    """Start it, and end exactly its processes; Ray's files lie under /tmp, where the paths of sockets are short."""
    home = Path(f"/tmp/pangu-jobs-{os.getpid()}")
    shutil.rmtree(home, ignore_errors=True)
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray" / "auth_token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    dashboard = free_port()
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment = {**os.environ, **own}
    environment.pop("RAY_ADDRESS", None)
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
    ports = [f"--port={free_port()}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    more = ["--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={home}/r", "--node-ip-address=127.0.0.1"]
    log = folder / "head.log"
    process = started([*ray, *ports, *more], environment, log)
    try:
        wait_for(lambda: answers(dashboard, token.read_text()), 120, log.read_text)
        yield Head(f"http://127.0.0.1:{dashboard}", own)
    finally:
        end(process)
        shutil.rmtree(home)


STARTS = 3
"""Ray gives its own node 30 s to start, which a busy machine may exceed."""


def started(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    for _ in range(STARTS):
        with log.open("w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )
        wait_for(lambda one=process: "Ray runtime started" in log.read_text() or one.poll() is not None, 240)
        if process.poll() is None:
            return process
        end(process)
    raise AssertionError(log.read_text())


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the head, SIGKILL to what is left of its processes, also where it has ended before them."""
    family = {one for one in psutil.process_iter() if session_of(one.pid) == process.pid}
    if process.poll() is None:
        family |= {*psutil.Process(process.pid).children(recursive=True)}
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=20)
    for one in alive:
        one.kill()
    process.wait()


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port: int, token: str) -> bool:
    """Whether it takes jobs; the port is open a while before that."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status == 200
    except OSError:  # not there yet, or not whole
        return False


def wait_for(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.5)
