"""Which machine a figure is from: cores, and whether its processor multiplies bf16 by tiles (AMX)."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def machine() -> dict[str, object]:
    """Cores that this process may use, threads of torch, AMX or not, and the model of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    # oneDNN can be told to use less than the processor has.
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return {
        "processor": named.get("model name", "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "amx": "amx_bf16" in named.get("flags", "").split() and limited is None,
    } | ({"limited_to": limited} if limited else {})
