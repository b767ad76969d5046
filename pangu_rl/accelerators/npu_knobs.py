"""What contradicts itself in an environment of CANN's variables. An environment -> **conflicts**, each with its mend.

A conflict is a setting that its reader would refuse at first use, overrule, or pass over in silence. The sources stand
in `npu_env.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

EXEC_LIMIT_S = 1091
"""The longest HCCL_EXEC_TIMEOUT of collectives that run on the vector cores (AIV)."""
_PORTS = r"auto|\d+(-\d+)?(,\d+(-\d+)?)*"
Allowed = str | range
"""A regular expression, or whole numbers."""
_VALUES: dict[str, tuple[Allowed, str]] = {
    "TASK_QUEUE_ENABLE": (range(3), "0 (off), 1, or 2 (deeper, for learners)"),
    "ASCEND_LAUNCH_BLOCKING": (range(2), "0 or 1"),
    "ASCEND_GLOBAL_LOG_LEVEL": (range(5), "0 (debug) to 4 (none)"),
    "MULTI_STREAM_MEMORY_REUSE": (range(4), "0, 1, 2 or 3"),
    "CPU_AFFINITY_CONF": (
        r"(mode:)?[012](,npu\d+:\d+(-\d+)?|,npu_affine:[01]|,force:[01]|,lazy_bind:[01])*",
        "a mode 0, 1 or 2, then e.g. ,npu0:0-15 or ,npu_affine:1 without spaces",
    ),
    "HCCL_ASYNC_ERROR_HANDLING": (range(4), "0, 1, 2 or 3"),
    "HCCL_BUFFSIZE": (range(1, 1 << 31), "a number of MB, 1 or more"),
    "HCCL_CONNECT_TIMEOUT": (range(120, 7201), "120 to 7200 (seconds)"),
    "HCCL_DETERMINISTIC": ("(?i:false|true|strict)", "false, true or strict"),
    "HCCL_EXEC_TIMEOUT": (range(1 << 31), "a number of seconds, 0 for no limit"),
    "HCCL_HOST_SOCKET_PORT_RANGE": (_PORTS, "auto, or ports such as 60000-60050"),
    "HCCL_NPU_SOCKET_PORT_RANGE": (_PORTS, "auto, or ports such as 61000-61050"),
    "HCCL_OP_EXPANSION_MODE": ("AI_CPU|AIV|HOST|HOST_TS", "AI_CPU, AIV, HOST or HOST_TS"),
}
_FLAG: tuple[Allowed, str] = ("True|False", "True or False")
_ALLOCATOR: dict[str, tuple[Allowed, str]] = {
    "expandable_segments": _FLAG,
    "pin_memory_expandable_segments": _FLAG,
    "pinned_mem_register": _FLAG,
    "pinned_use_background_threads": _FLAG,
    "multi_stream_lazy_reclaim": _FLAG,
    "max_split_size_mb": (range(21, 1 << 31), "more than 20"),
    "garbage_collection_threshold": (r"0?\.\d*[1-9]\d*", "more than 0 and less than 1"),
    "segment_size_mb": (range(20, 513), "20 to 512"),
    "base_addr_aligned_kb": (range(17), "0 to 16"),
    "page_size": ("1g", "1g"),
    "per_process_memory_fraction": (r"0?\.\d*[1-9]\d*|1(\.0*)?", "more than 0 and at most 1"),
    "roundup_power2_divisions": (r"\d+|\[.*\]", "a number, or [256:1,512:2,>:8]"),
    "pinned_reserve_segment_size_mb": (range(1 << 31), "a number of MB"),
}
"""Option of PYTORCH_NPU_ALLOC_CONF -> its values, and how they are told."""
_ENGINES_REFUSE = {
    "VLLM_ASCEND_ENABLE_NZ": (
        "(?!0$).+",
        "weights in the NZ format cannot be written in place",
        "unset it or set it to 0",
    ),
    "TASK_QUEUE_ENABLE": ("2", "graph capture refuses it", "set it to 1 for them"),
    "ASCEND_LAUNCH_BLOCKING": ("1", "graph capture refuses it", "set it for learners alone"),
    "CPU_AFFINITY_CONF": ("[^0].*", "vllm-ascend binds their cores itself", "set it for learners alone"),
    # The allocator of sleep mode looks for this text, so that the pinned memory's option has it too.
    "PYTORCH_NPU_ALLOC_CONF": (".*expandable_segments:True.*", "sleep mode refuses it", "set it for learners alone"),
    "VLLM_USE_V2_MODEL_RUNNER": ("(?!0$).+", "vllm-ascend 0.23 has the first alone", "unset it"),
}
"""Variable -> values that an engine cannot have, why, and the way out."""
_PLUGINS = ("ascend", "ascend_model", "ascend_model_loader", "pangu_vl")
"""Entry points that an engine of ours needs: vllm-ascend's platform and models, and our models."""


class Conflict(NamedTuple):
    what: str
    """Names the settings and both values."""
    mend: str


def learner_conflicts(env: Mapping[str, str]) -> Iterator[Conflict]:
    """In the environment of a learner's process."""
    yield from _values(env)
    yield from _allocator(env)
    yield from _network(env)
    if env.get("ASCEND_LAUNCH_BLOCKING") == "1" and env.get("TASK_QUEUE_ENABLE", "0") != "0":
        yield Conflict(
            f"ASCEND_LAUNCH_BLOCKING is 1 and TASK_QUEUE_ENABLE {env['TASK_QUEUE_ENABLE']}, and blocking launches turn "
            "the queue off",
            "set TASK_QUEUE_ENABLE to 0 while you debug, or unset ASCEND_LAUNCH_BLOCKING",
        )


def engine_conflicts(env: Mapping[str, str]) -> Iterator[Conflict]:
    """In the environment of an engine's process."""
    yield from _values(env)
    yield from _allocator(env)
    yield from _network(env)
    for name, (refused, why, mend) in _ENGINES_REFUSE.items():
        if re.fullmatch(refused, env.get(name, "")):
            yield Conflict(f"{name} is {env[name]} for engines, and {why}", mend)
    if plugins := env.get("VLLM_PLUGINS"):
        missing = [name for name in _PLUGINS if name not in plugins.split(",")]
        if missing:
            yield Conflict(f"VLLM_PLUGINS is {plugins}, without {', '.join(missing)}", "add them, or unset it")
    reduced = env.get("HCCL_DETERMINISTIC", "strict")
    if env.get("VLLM_BATCH_INVARIANT") == "1" and reduced.lower() != "strict":
        yield Conflict(
            f"VLLM_BATCH_INVARIANT is 1 and HCCL_DETERMINISTIC {reduced}, which it sets to strict",
            "set HCCL_DETERMINISTIC to strict or unset it",
        )


def _values(env: Mapping[str, str]) -> Iterator[Conflict]:
    for name, (allowed, told) in _VALUES.items():
        if name in env and not _fits(env[name], allowed):
            yield Conflict(f"{name} is {env[name]!r}", f"write {told}")


def _network(env: Mapping[str, str]) -> Iterator[Conflict]:
    for first, second, mend in (
        ("HCCL_IF_IP", "HCCL_SOCKET_IFNAME", "keep the interface, whose name the nodes share"),
        ("HCCL_HOST_SOCKET_PORT_RANGE", "HCCL_IF_BASE_PORT", "name the ports in the first and unset the second"),
    ):
        if first in env and second in env:
            yield Conflict(f"{first} is {env[first]} and goes before {second} {env[second]}", mend)
    limit = env.get("HCCL_EXEC_TIMEOUT", str(EXEC_LIMIT_S))
    if env.get("HCCL_OP_EXPANSION_MODE") == "AIV" and limit.isdigit() and not 0 < int(limit) <= EXEC_LIMIT_S:
        yield Conflict(
            f"HCCL_OP_EXPANSION_MODE is AIV and HCCL_EXEC_TIMEOUT {limit}, of which HCCL takes no more than "
            f"{EXEC_LIMIT_S}",
            f"set HCCL_EXEC_TIMEOUT to {EXEC_LIMIT_S} or less",
        )


def _allocator(env: Mapping[str, str]) -> Iterator[Conflict]:
    name = "PYTORCH_NPU_ALLOC_CONF"
    if "PYTORCH_ALLOC_CONF" in env:
        yield Conflict(
            f"PYTORCH_ALLOC_CONF is {env['PYTORCH_ALLOC_CONF']} beside {name} {env.get(name, '')}",
            f"write it into {name}, the one that torch-npu reads, and unset it",
        )
    options = _options(env.get(name, ""))
    for option, value in options.items():
        allowed, told = _ALLOCATOR.get(option, (None, ""))
        if allowed is None:
            yield Conflict(f"{name} has {option!r}, which torch-npu's allocator does not know", "correct or drop it")
        elif not _fits(value, allowed):
            yield Conflict(f"{name} has {option}:{value}", f"write {told}")
    expands = options.get("expandable_segments") == "True"
    for option in ("max_split_size_mb", "garbage_collection_threshold"):
        if expands and option in options:
            yield Conflict(
                f"{name} has expandable_segments:True and {option}, which exclude each other", "drop one of the two"
            )
    for option in ("segment_size_mb", "base_addr_aligned_kb"):
        if option in options and not expands:
            yield Conflict(f"{name} has {option} without expandable_segments:True", "add that, or drop it")
    if {"page_size", "segment_size_mb"} <= options.keys():
        yield Conflict(f"{name} has page_size, which goes before its segment_size_mb", "drop one of the two")
    if options.get("pin_memory_expandable_segments") == options.get("pinned_mem_register") == "True":
        yield Conflict(
            f"{name} has pin_memory_expandable_segments:True and pinned_mem_register:True, which exclude each other",
            "drop one of the two",
        )


def _fits(value: str, allowed: Allowed) -> bool:
    if isinstance(allowed, range):
        return value.isdecimal() and int(value) in allowed
    return re.fullmatch(allowed, value) is not None


def _options(text: str) -> dict[str, str]:
    """`name:value,name:value`; a value in brackets has commas of its own."""
    parts = re.findall(r"(?:\[[^\]]*\]|[^,\[])+", text)
    return {key.strip(): value.strip() for key, _, value in (part.partition(":") for part in parts)}
