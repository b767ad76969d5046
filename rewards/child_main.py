"""The child's side: a nursery that has imported everything forks children that do one task after another.

    pool --start--> nursery (one thread, runs no task) --fork--> child, child, ...   each with a socket to the pool

Started as a fresh interpreter, so none of the caller's threads, signals or files are in it. Forking from a process with
one thread is safe, takes milliseconds, and shares the memory of the imports. The nursery ends when the pool's process
does, and every child ends with the nursery, also in the middle of a C call.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from rewards.child_wire import (
    DISCARD,
    OUT_OF_MEMORY,
    REQUEST,
    START,
    encode_error,
    encode_result,
    receive_frame,
    send_frame,
)

BACKSTOP = 4
"""Address space over the memory limit. A task that asks for more than the limit should get it and be seen to have it,
by the pool or afterwards here, for a refused allocation is an error that libraries turn into a wrong answer."""

_PR_SET_PDEATHSIG = 1
_STATM = Path("/proc/self/statm")


def main(descriptor: int, parent: int) -> None:
    """Serve the pool whose process is `parent` over the socket `descriptor`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    control = socket.socket(fileno=descriptor)
    warm_up, memory_mib = pickle.loads(receive_frame(control))
    try:
        warm_up()
    except BaseException as error:  # whatever keeps the children from starting is for the pool to report
        send_frame(control, encode_error(error))
        return
    gc.collect()
    gc.freeze()  # the collector of a child would touch, and so copy, every shared page
    send_frame(control, encode_result("ready"))
    _serve(control, memory_mib)


def _serve(control: socket.socket, memory_mib: int) -> None:
    children: set[int] = set()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1)
        if len(request) < REQUEST.size:  # the pool is gone
            break
        order, pid = REQUEST.unpack(request)
        if order == START:
            pid = _fork_child(control, descriptors[0], memory_mib)
            children.add(pid)
            send_frame(control, encode_result(pid))
        elif order == DISCARD:
            children.discard(pid)
            send_frame(control, encode_result(_end(pid)))
    for pid in children:
        _end(pid)


def _fork_child(control: socket.socket, descriptor: int, memory_mib: int) -> int:
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        with suppress(OSError):  # the child does it too: whoever comes first
            os.setpgid(pid, pid)
        return pid
    try:
        control.close()
        os.setpgid(0, 0)
        _die_with(nursery)
        _limit_address_space(memory_mib * BACKSTOP)
        _work(socket.socket(fileno=descriptor), _peak_kib() + memory_mib * 1024)
    finally:
        os._exit(1)


def _end(pid: int) -> int:
    """Kill a child with everything it started, and return how it ended: an exit code, or minus a signal's number."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _work(connection: socket.socket, peak_kib: int) -> None:
    while True:
        try:
            payload = receive_frame(connection)
        except ConnectionError:
            os._exit(0)
        reply = _answer(payload)
        if _peak_kib() > peak_kib:  # libraries catch MemoryError and answer something else
            os._exit(OUT_OF_MEMORY)
        send_frame(connection, reply)


def _answer(payload: bytes) -> bytes:
    try:
        function, args = pickle.loads(payload)
        return encode_result(function(*args))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:  # a plugin's SystemExit or a library's own kind of timeout ends the task alone
        return encode_error(error)


def _peak_kib() -> int:
    """The most memory that this process ever had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "linux" else peak // 1024


def _limit_address_space(mebibytes: int) -> None:
    """Grant `mebibytes` beyond what the imports took. Linux alone enforces it."""
    if _STATM.exists():
        taken = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        limit = taken + (mebibytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, even while a C call holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
