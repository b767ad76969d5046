"""A `ray start --head` of its own for tests: ports, temporary directory, home and token."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
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
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(
        [*ray, *ports, *more], stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
    )
    try:
        wait_for(lambda: answers(dashboard), 120, lambda: (folder / "head.log").read_text())
        yield Head(f"http://127.0.0.1:{dashboard}", own)
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=20)
        for one in alive:
            one.kill()
        process.wait()
        log.close()
        subprocess.run(["rm", "-rf", str(home)], check=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.5)
