"""Every Python process that has this folder on its path **waits at a door**: before a call of one function.

`tests/faults/doors.py` names the door in the environment. The first process that comes to it says so with its pid, then
waits until it is let through, or never is. Whatever else it does, its other threads go on doing.
"""

import functools
import importlib.util
import json
import os
import sys
import threading
import time
from pathlib import Path

DOOR = "PANGU_RL_TEST_DOOR"


class _Finder:
    """Puts the door into its module as soon as that has run, before anybody can take the function from it."""

    def __init__(self, door):
        self._door = door
        self._module, self._name = door["function"].split(":")

    def find_spec(self, name, path=None, target=None):
        if name != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            self._hang(module)

        spec.loader.exec_module = exec_module
        return spec

    def _hang(self, module):
        *owners, name = self._name.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, name, _guarded(getattr(owner, name), self._door))


def _guarded(function, door):
    calls, lock = 0, threading.Lock()

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        nonlocal calls
        if _is_meant(door):
            with lock:
                calls += 1
                here = calls == door["call"]
            if here:
                _wait(Path(door["folder"]))
        return function(*args, **kwargs)

    return guarded


def _is_meant(door):
    if door["rank"] is not None and os.environ.get("RANK") != str(door["rank"]):
        return False
    frame = sys._getframe(2)
    while door["within"] and frame is not None and frame.f_code.co_qualname != door["within"]:
        frame = frame.f_back
    return frame is not None


def _wait(folder):
    mine = folder / f"pid_{os.getpid()}"
    mine.write_text(str(os.getpid()))
    try:
        os.link(mine, folder / "held")
    except FileExistsError:
        return  # another one stands there, or stood
    while not (folder / "open").exists():
        time.sleep(0.01)
    if shift := float((folder / "open").read_text() or 0):
        true = time.time
        time.time = lambda: true() + shift
        time.time_ns = lambda: int((true() + shift) * 1e9)


if DOOR in os.environ:
    sys.meta_path.insert(0, _Finder(json.loads(os.environ[DOOR])))
