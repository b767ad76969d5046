"""A machine without accelerators: gloo, in-process engines, memory as the process sees it."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pangu_rl.accelerators.base import (
    ENGINE,
    LEARNER,
    Accelerator,
    Environment,
    torch_module,
    torch_profiler,
    variables_named,
    variables_of,
)
from pangu_rl.accelerators.host_memory import host_memory

if TYPE_CHECKING:
    from pangu_rl.accelerators.attention.kernel import AttentionKernel

SPIN = "10000"
"""Turns that an idle OpenMP thread spins for before it sleeps. The default spins on: with any other process on the
cores, every small kernel then waits for a thread that has lost its own, and a step takes ten times as long."""

ENGINE_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "THP_MEM_ALLOC_ENABLE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""glibc keeps half a GiB of freed memory, and torch asks for pages of 2 MiB, for tensors as large; from version 2.35 on
glibc asks for all else. By default what a step frees goes back to the kernel and comes again in pages of 4 KiB: 16,000
faults for the logits of 64 sequences, two thirds of that time. What is larger than 32 MiB goes back, a sleeper's cache
above all. What is exported wins."""

LEARNER_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
    "THP_MEM_ALLOC_ENABLE": "0",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0",
}
"""glibc keeps all that a step frees, as a device's allocator does, and what fitted fits again (`benchmarks/README.md`).

One heap: those of other threads than the main one, where Ray runs an actor's calls, are pieces of 64 MiB that come and
go. No cache of a thread: it takes the few bytes beside a large tensor, which then never fit together again. And
`THP_MEM_ALLOC_ENABLE` is off: torch would want addresses of whole 2 MiB, which a hole of its size seldom has."""


def _train_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    return {**_process_env(threads, LEARNER_MEMORY, environ), "DS_ACCELERATOR": "cpu", **variables_of(LEARNER, environ)}


def _rollout_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    # The engine core in its own process starts three times slower and samples a third slower than in the actor's.
    own = {**_process_env(threads, ENGINE_MEMORY, environ), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return {**own, **variables_of(ENGINE, environ)}


def _process_env(threads: int, memory: Environment, environ: Mapping[str, str]) -> Environment:
    # Ray gives an actor OMP_NUM_THREADS=1 unless its environment says otherwise.
    return {
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": SPIN,
        **memory,
        **variables_named(tuple(memory), environ),
    }


def _memory() -> dict[str, int]:
    import psutil

    resident = psutil.Process().memory_info().rss
    free, total = host_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"allocated": resident, "reserved": resident, "peak": peak, "free": free, "total": total}


def _attention() -> AttentionKernel:
    from pangu_rl.accelerators.attention.compiled import compiled_or_plain

    return compiled_or_plain()


CPU = Accelerator(
    name="cpu",
    dist_backend="gloo",
    ds_accelerator="cpu",
    ray_resource=None,
    visible_env=None,
    noset_env=None,
    dtypes=("bfloat16", "float32"),
    detect=lambda: True,
    module=lambda: torch_module("cpu"),
    train_env=_train_env,
    rollout_env=_rollout_env,
    memory_stats=_memory,
    attention=_attention,
    profiler=lambda: torch_profiler("CPU"),
    sleep_levels=(1, 2),
    sleep_args=None,
)
