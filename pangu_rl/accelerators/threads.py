"""The cores that a job may use -> **threads of each of its processes**."""

from __future__ import annotations

import os


def threads_each(processes: int) -> int:
    """Of each of so many processes on this machine, at least 1: more threads than cores spin against each other.

    The cores are those that this process may run on, which under `taskset` or a cpuset are fewer than there are.
    """
    return max(1, len(os.sched_getaffinity(0)) // processes)
