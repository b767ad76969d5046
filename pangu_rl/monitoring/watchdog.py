"""A phase that takes too long is named, with the actor and the samples it waits for, and the stacks are dumped."""

from __future__ import annotations

import faulthandler
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pangu_rl.monitoring.phases import Phase, PhaseTimer

log = logging.getLogger(__name__)

_SHOWN = 8


class Process(NamedTuple):
    """One of the run's, on any of its nodes."""

    host: str
    pid: int

    @classmethod
    def here(cls) -> Process:
        """The one that asks."""
        return cls(platform.node(), os.getpid())


class Watchdog:
    """A thread beside the loop. It reports a stalled phase once and never interferes with it.

    `processes` names those whose stacks help (`rollout actor 0`), asked at the time of the stall;
    `on_stall` gets the message, after the stacks are written to `stacks-<phase>.txt` in `directory`.
    """

    def __init__(
        self,
        phases: PhaseTimer,
        stall_s: float,
        directory: Path,
        *,
        processes: Callable[[], Mapping[str, Process]] = dict,
        on_stall: Callable[[str], None] | None = None,
    ) -> None:
        self.phases = phases
        self.stall_s = stall_s
        self.directory = Path(directory)
        self.processes = processes
        self.on_stall = on_stall
        self._reported: Phase | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.stall_s / 4)):
            phase = self.phases.current
            if phase is None or phase is self._reported:
                continue
            seconds = self.phases.clock() - phase.started
            if seconds > self.stall_s:
                self._reported = phase
                self._report(phase, seconds)

    def _report(self, phase: Phase, seconds: float) -> None:
        stacks = self.directory / f"stacks-{phase.name}.txt"
        message = (
            f"phase {phase.name} runs for {seconds:.0f} s (trainer.stall_s is {self.stall_s:g}), waiting for "
            f"{_describe(phase)}; stacks in {stacks}"
        )
        log.error(message)
        dump_stacks(stacks, self._processes())
        if self.on_stall is not None:
            self.on_stall(message)

    def _processes(self) -> Mapping[str, Process]:
        try:
            return self.processes()
        except Exception as error:
            log.warning("watchdog: the processes to look at are not known: %r", error)
            return {}


def dump_stacks(path: Path, processes: Mapping[str, Process]) -> None:
    """Stacks of every thread of this process and, if py-spy is installed and allowed to, of those on this node."""
    with path.open("w", encoding="utf-8") as file:
        file.write("== this process ==\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        here = Process.here().host
        for name, (host, pid) in processes.items():
            stacks = _spy(pid) if host == here else f"look there: py-spy dump --pid {pid}\n"
            file.write(f"\n== {name}, pid {pid} on {host} ==\n{stacks}")


def _describe(phase: Phase) -> str:
    # The callable asks a system that is in trouble already: its failure is news too, and must not end the watch.
    try:
        waiting = list(phase.waiting())
    except Exception as error:
        return f"something that cannot tell ({error!r})"
    more = [f"and {len(waiting) - _SHOWN} more"] if len(waiting) > _SHOWN else []
    return "; ".join(waiting[:_SHOWN] + more) or "nothing that it could name"


def _spy(pid: int) -> str:
    beside_python = Path(sys.executable).with_name("py-spy")
    program = str(beside_python) if beside_python.exists() else shutil.which("py-spy")
    if program is None:
        return "py-spy is not installed: pip install py-spy\n"
    try:
        done = subprocess.run(
            [program, "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return "py-spy gave no answer within 30 s\n"
    return done.stdout or done.stderr
