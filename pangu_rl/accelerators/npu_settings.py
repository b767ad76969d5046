"""Values of torch-npu's environment variables: environment of a role -> **the first value that torch-npu refuses**.

torch-npu reads them at a process's first use of the device, long after the actors have started, or takes a wrong one
for none. Grammar of torch-npu 2.10.0.post4 (NPUAllocatorConfig, OptionsManager, GetAffinityInfo).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pangu_rl.errors import ConfigError

ALLOCATOR, OTHER_ALLOCATOR = "PYTORCH_NPU_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
_AFFINITY = re.compile(r"(mode:)?[012](,npu\d+:\d+(-\d+)?|,npu_affine:[01]|,force:[01]|,lazy_bind:[01])*")


def _whole(least: int, most: float = float("inf")) -> Callable[[str], bool]:
    return lambda value: value.isdecimal() and least <= int(value) <= most


def _share(value: str) -> bool:
    return re.fullmatch(r"[01]?\.?\d+", value) is not None and float(value) <= 1


def _truth(value: str) -> bool:
    return value in ("True", "False")


ALLOCATOR_OPTIONS: dict[str, tuple[Callable[[str], bool], str]] = {
    "expandable_segments": (_truth, "True or False"),
    "pin_memory_expandable_segments": (_truth, "True or False"),
    "pinned_mem_register": (_truth, "True or False"),
    "pinned_use_background_threads": (_truth, "True or False"),
    "multi_stream_lazy_reclaim": (_truth, "True or False"),
    "max_split_size_mb": (_whole(21), "a whole number above 20"),
    "segment_size_mb": (_whole(20, 512), "a whole number from 20 to 512"),
    "pinned_reserve_segment_size_mb": (_whole(1), "a whole number"),
    "base_addr_aligned_kb": (_whole(0, 16), "a whole number from 0 to 16"),
    "roundup_power2_divisions": (_whole(1), "a power of two"),
    "garbage_collection_threshold": (_share, "a share of 1"),
    "per_process_memory_fraction": (_share, "a share of 1"),
    "page_size": ("1g".__eq__, "1g"),
}
"""Option of the allocator -> which values it takes, and the same in words."""
EXCLUDED = ("max_split_size_mb", "garbage_collection_threshold")
"""By expandable segments."""


def check_settings(env: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """`env` is that of a role, `environ` what its processes inherit.

    Raises:
        ConfigError: a variable with a value that torch-npu refuses or does not know, or two that exclude each other.
    """
    if (queue := env["TASK_QUEUE_ENABLE"]) not in ("0", "1", "2"):
        raise ConfigError(f"TASK_QUEUE_ENABLE is {queue!r}: torch-npu takes 0 (off), 1, or 2 (learner's default)")
    if not _AFFINITY.fullmatch(affinity := env["CPU_AFFINITY_CONF"]):
        raise ConfigError(
            f"CPU_AFFINITY_CONF is {affinity!r}: write a mode 0, 1 or 2, then e.g. ,npu0:0-15 or ,npu_affine:1 without "
            "spaces"
        )
    if OTHER_ALLOCATOR in environ:
        raise ConfigError(
            f"{OTHER_ALLOCATOR} is {environ[OTHER_ALLOCATOR]!r}: torch-npu 2.10 does not read it, and later "
            f"ones refuse it beside {ALLOCATOR}: unset it and set {ALLOCATOR} instead"
        )
    _check_allocator(env[ALLOCATOR])


def _check_allocator(text: str) -> None:
    options = {}
    for entry in filter(None, text.split(",")):
        name, _, value = (part.strip() for part in entry.partition(":"))
        if name not in ALLOCATOR_OPTIONS:
            raise ConfigError(f"{ALLOCATOR} has {name!r}: torch-npu knows {', '.join(ALLOCATOR_OPTIONS)}")
        takes, words = ALLOCATOR_OPTIONS[name]
        if not takes(value):
            raise ConfigError(f"{ALLOCATOR} has {entry.strip()!r}: {name} is {words}")
        options[name] = value
    excluded = [name for name in EXCLUDED if name in options]
    if options.get("expandable_segments") == "True" and excluded:
        raise ConfigError(
            f"{ALLOCATOR} has expandable_segments:True and {excluded[0]}, which exclude each other: drop one of the two"
        )
