"""**The settings that may change from one start of a run to the next**: how it runs, never what comes out of it."""

from __future__ import annotations

from typing import Any

OPERATIONAL = {
    "rollout": {
        "actors",
        "devices_per_actor",
        "placement",
        "sleep_level",
        "kv_cache_gib",
        "memory_share",
        "max_restarts",
        "silence_s",
        "weight_transport",
        "probe_tolerance",
    },
    "rewards": {"workers", "timeout_s", "max_no_verdict_share"},
}
"""Of what draws and scores."""
FREE: dict[str, Any] = {
    **OPERATIONAL,
    "trainer": {
        "run_dir",
        "stall_s",
        "silence_s",
        "max_restarts",
        "checkpoint_every",
        "checkpoint_every_s",
        "keep_checkpoints",
        "keep_steps",
        "resume",
    },
    "monitoring": True,
    "cluster": True,
}
"""Of a whole stage."""
