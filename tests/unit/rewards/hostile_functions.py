"""What a child may be asked to do wrong, at the top of a module so that a child finds it by name."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

from pangu_rl.records import Outcome, Part


def nothing() -> None:
    """A warm-up that imports nothing."""


def fail_to_warm_up() -> None:
    raise ImportError("no algebra here")


def square(number: int) -> int:
    return number * number


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def spin() -> None:
    while True:
        pass


def power_in_c() -> int:
    return pow(7, 10**9)


def digits_in_c() -> int:
    sys.set_int_max_str_digits(0)
    return len(str(1 << 30_000_000))


def backtrack() -> bool:
    return re.match(r"(a+)+$", "a" * 40 + "b") is None


def ignore_signals_and_spin() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spin()


def allocate(mebibytes: int) -> int:
    return len(bytearray(mebibytes << 20))


def allocate_slowly() -> None:
    kept = []
    while True:
        kept.append(list(range(100_000)))


def swallow_memory_error() -> str:
    """As libraries do: catch everything and say something else."""
    kept = []
    try:
        while True:
            kept.append(list(range(100_000)))
    except MemoryError:
        kept.clear()
    return "incorrect"


def hold(mebibytes: int, seconds: float) -> str:
    """Hold touched memory in a call that never looks up."""
    held = b"x" * (mebibytes << 20)
    time.sleep(seconds)
    return f"{len(held)} held"


def recurse() -> int:
    return recurse() + 1


def leave(code: int) -> None:
    os._exit(code)


def segfault() -> None:
    ctypes.string_at(0)


def shoot_yourself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def shoot_yourself_without_a_name() -> None:
    """A real-time signal: it has a number alone."""
    os.kill(os.getpid(), 40)


def die_once(marker: str) -> str:
    """Die at the first call, as of a kill from outside; `marker` is a path to remember it by."""
    if os.path.exists(marker):
        return "second time"
    open(marker, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def starve_once(marker: str) -> str:
    """At the first call, share one processor with six processes that spin; they end with this one."""
    if os.path.exists(marker):
        return "second time"
    open(marker, "w").close()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for _ in range(6):
        if os.fork() == 0:
            spin()
    spin()
    return "never"


def close_everything() -> None:
    os.closerange(0, 256)
    spin()


def raise_error(text: str) -> None:
    raise KeyError(text)


def raise_exit() -> None:
    raise SystemExit(3)


def return_object() -> Any:
    return object()


def return_text(length: int) -> str:
    return "x" * length


def forge(body: bytes) -> None:
    """Write a reply of our own to every socket that is open, then hang."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, len(body).to_bytes(8, "big") + body)
        except OSError:
            continue
    spin()


def part(value: float | None, outcome: str) -> Part:
    return Part(value=value, outcome=Outcome(outcome), detail="a \ud800 detail")


def environment() -> dict[str, str]:
    return dict(os.environ)


def streams() -> list[str]:
    print("to nowhere" * 100_000)
    return [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]


def ignores_sigint() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def start_grandchild() -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def pid() -> int:
    return os.getpid()


def parent_pid() -> int:
    return os.getppid()


def threads() -> int:
    return len(os.listdir(f"/proc/{os.getppid()}/task"))


def resident_kib(process: int) -> int:
    with open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
