"""The pool's side of its processes: `Nursery`, which forks, and `Child`, which works."""

from __future__ import annotations

import os
import pickle
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rewards.child_wire import (
    DISCARD,
    MAX_REPLY_BYTES,
    OUT_OF_MEMORY,
    REQUEST,
    START,
    ChildError,
    decode_reply,
    receive_frame,
    send_frame,
)

START_S = 120.0
"""Time for a nursery to import what the children need; no task's deadline counts it."""
ORDER_S = 10.0
"""Time for a nursery to start or to end a child: milliseconds, unless it was stopped."""
WATCH_S = 0.05
"""How often the memory of a child at work is looked at."""
OVER_MEMORY = "went over its memory limit"
ORPHANED = "ended with the process that forked it"

_PAGE = resource.getpagesize()
_SECRET = re.compile("KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
_LOGIN = re.compile(r"://[^\s/?#]*@|://[^\s/?#]*:\S*@")
"""A user in an address, with or without a password; a password may hold what should have been encoded."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class OverMemory(OSError):
    """A child held more than its memory limit."""


class Starved(TimeoutError):
    """A child was not done in time, and spent most of it waiting for a processor: the machine is late, not the task."""


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without variables whose name speaks of a secret or whose value holds an address with a login, for
    one thread, this interpreter's modules, and one order of hashing, so that a verdict does not depend on it."""
    kept = {n: value for n, value in environment.items() if not (_SECRET.search(n) or _LOGIN.search(value))}
    modules = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return {**kept, **_ONE_THREAD, "PYTHONPATH": modules, "PYTHONHASHSEED": "0"}


class Nursery:
    """The process that has imported everything and forks children. Thread-safe; made by a thread that lives as long
    as it should, since Linux ties the death signal to the parent's thread."""

    def __init__(self, warm_up: Callable[[], object], memory_mib: int) -> None:
        """Start it, without waiting until it is warm."""
        self._lock = threading.Lock()
        self._ready = False
        self._failure: OSError | ChildError | None = None
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rewards.child_main", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=child_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._memory_mib = memory_mib
        self._setup = pickle.dumps((warm_up, memory_mib))

    @property
    def gone(self) -> bool:
        return self._failure is not None or self._process.poll() is not None

    def start_child(self) -> Child:
        """Fork a child; the first call waits for the warm-up.

        Raises:
            OSError: the nursery is gone or does not answer; it is killed then.
            ChildError: the warm-up raised.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            if self._failure is not None:
                raise self._failure
            try:
                self._wait_until_ready()
                self._control.settimeout(ORDER_S)
                socket.send_fds(self._control, [REQUEST.pack(START, 0)], [theirs.fileno()])
                pid = decode_reply(receive_frame(self._control, time.monotonic() + ORDER_S))
            except (OSError, ChildError) as error:
                ours.close()
                self._give_up(error)
                raise
        return Child(self, pid, ours, self._memory_mib)

    def discard(self, pid: int) -> str:
        """Kill a child, and say how it ended. A nursery that is gone took its children along."""
        with self._lock:
            try:
                self._control.settimeout(ORDER_S)
                self._control.sendall(REQUEST.pack(DISCARD, pid))
                return _ending(decode_reply(receive_frame(self._control, time.monotonic() + ORDER_S)))
            except (OSError, ChildError) as error:
                self._give_up(error)
                return ORPHANED

    def close(self) -> None:
        """End it and all children."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
            self._process.wait(timeout=ORDER_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _give_up(self, failure: OSError | ChildError) -> None:
        self._failure = failure
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        if not self._ready:
            until = time.monotonic() + START_S
            send_frame(self._control, self._setup, until)
            decode_reply(receive_frame(self._control, until))
            self._ready = True


class Child:
    """One process that does one task at a time. For one thread at a time."""

    def __init__(self, nursery: Nursery, pid: int, connection: socket.socket, memory_mib: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._connection = connection
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._resident_bytes = self._resident() + (memory_mib << 20)

    def call(self, payload: bytes, until: float) -> bytes:
        """The reply to a pickled task.

        Raises:
            TimeoutError: none until `until`; Starved: with a reason. OverMemory: the child held too much of it.
            OSError: the child died. BadReply: the reply is too long. The child is unusable after any of them.
        """
        start, waited_before = time.monotonic(), self._waited_s()
        send_frame(self._connection, payload, until)
        while not self._readable.poll(max(0.0, min(WATCH_S, until - time.monotonic())) * 1000):
            if self._resident() > self._resident_bytes:
                raise OverMemory
            if time.monotonic() >= until:
                starved = self._waited_s() - waited_before > (until - start) / 2
                raise Starved if starved else TimeoutError
        return receive_frame(self._connection, until, MAX_REPLY_BYTES)

    def _resident(self) -> int:
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:  # no Linux, or no such process any more
            return 0

    def _waited_s(self) -> float:
        """How long it has been ready to run while others ran."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        except OSError:
            return 0.0

    def idle(self) -> bool:
        """Alive, and nothing left over in its socket."""
        self._connection.setblocking(False)
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def discard(self) -> str:
        """Kill it, and say how it ended."""
        self._connection.close()
        return self._nursery.discard(self.pid)


def _ending(code: Any) -> str:
    """For any reply of the nursery: real-time signals have numbers and no names."""
    if code == OUT_OF_MEMORY:
        return OVER_MEMORY
    if not isinstance(code, int) or code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"died of {names.get(-code, f'signal {-code}')}"
