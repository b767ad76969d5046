"""CANN's environment, split by role. Exported variables -> **environment of a rank or an engine**.

CANN, HCCL and torch-npu read it at a process's first use of the device, so it travels with the actors. The learner
wants the deeper task queue, bound cores and expandable segments; the engine's graph capture, its own binding of cores
and its sleep mode refuse them. Sources: CANN 8.5's reference of environment variables; torch-npu 2.10.0.post4 (its
references of PYTORCH_NPU_ALLOC_CONF and CPU_AFFINITY_CONF, the messages in its library); vllm-ascend 0.23.0 (worker,
platform, camem).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pangu_rl.accelerators.base import ENGINE, LEARNER, Environment, variables_named, variables_of
from pangu_rl.accelerators.npu_knobs import EXEC_LIMIT_S, Conflict, engine_conflicts, learner_conflicts
from pangu_rl.errors import ConfigError

_NETWORK = ("HCCL_", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
_HCCL_DEFAULTS = {
    # The first collective waits for the slowest rank's model load, far longer than the default of 120 s.
    "HCCL_CONNECT_TIMEOUT": "1800",
    "HCCL_EXEC_TIMEOUT": "3600",
    # Several processes may share one device's node: fixed ports would collide.
    "HCCL_HOST_SOCKET_PORT_RANGE": "auto",
    "HCCL_NPU_SOCKET_PORT_RANGE": "auto",
}


def train_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    """Environment of a learner actor; what the user exported wins over the defaults, what is for learners alone most.

    Raises:
        ConfigError: a setting with a value that its reader refuses, or two that exclude each other.
    """
    env = _of_learner(threads, environ)
    _refuse(learner_conflicts({**environ, **env}))
    return env


def rollout_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    """Environment of an engine's actor. The learner's settings do not leak into it, whatever was exported for them.

    Raises:
        ConfigError: a setting that vllm-ascend refuses, or two that exclude each other.
    """
    env = _of_engine(threads, environ)
    _refuse(engine_conflicts({**environ, **env}))
    return env


def conflicts(environ: Mapping[str, str]) -> list[Conflict]:
    """All that would keep a rank or an engine from starting, each once."""
    learner, engine = {**environ, **_of_learner(1, environ)}, {**environ, **_of_engine(1, environ)}
    return list(dict.fromkeys([*learner_conflicts(learner), *engine_conflicts(engine)]))


def _of_learner(threads: int, environ: Mapping[str, str]) -> Environment:
    own = variables_of(LEARNER, environ)
    exported = {**environ, **own}
    # Blocking launches have no queue: torch-npu would set it to 0 whatever is asked for.
    queue = "0" if exported.get("ASCEND_LAUNCH_BLOCKING") == "1" else "2"
    return {
        **_network(exported),
        "OMP_NUM_THREADS": str(threads),
        "DS_ACCELERATOR": "npu",
        "TASK_QUEUE_ENABLE": exported.get("TASK_QUEUE_ENABLE", queue),
        "PYTORCH_NPU_ALLOC_CONF": exported.get("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
        "CPU_AFFINITY_CONF": exported.get("CPU_AFFINITY_CONF", "1"),
        **own,
    }


def _of_engine(threads: int, environ: Mapping[str, str]) -> Environment:
    own = variables_of(ENGINE, environ)
    return {
        **_network({**environ, **own}),
        "OMP_NUM_THREADS": str(threads),
        # Graph capture refuses 2, and blocking launches; the engine binds its own cores; sleep mode asserts against
        # expandable segments.
        "TASK_QUEUE_ENABLE": "1",
        "ASCEND_LAUNCH_BLOCKING": "0",
        "CPU_AFFINITY_CONF": "0",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:False",
        # Weights in the NZ format cannot be written in place: what asks for it is a conflict.
        "VLLM_ASCEND_ENABLE_NZ": environ.get("VLLM_ASCEND_ENABLE_NZ", "0"),
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        **own,
    }


def _refuse(found: Iterable[Conflict]) -> None:
    for conflict in found:
        raise ConfigError(f"{conflict.what}: {conflict.mend}")


def _network(exported: Mapping[str, str]) -> Environment:
    defaults = dict(_HCCL_DEFAULTS)
    if exported.get("HCCL_OP_EXPANSION_MODE") == "AIV":
        defaults["HCCL_EXEC_TIMEOUT"] = str(EXEC_LIMIT_S)
    return {**defaults, **variables_named(_NETWORK, exported)}
