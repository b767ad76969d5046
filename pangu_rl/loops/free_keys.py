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
RESUMED: dict[str, Any] = {
    **FREE,
    "model": {"path", "chat_template"},
    "data": {"train", "also", "heldout", "heldout_limit", "sft", "media_root", "reference", "plan", "labels"},
    "learner": {
        "ranks",
        "sequence_parallel",
        "overlap_comm",
        "reduce_bucket",
        "prefetch_bucket",
        "pack_tokens",
        "micro_batch",
        "micro_batch_tokens",
        "logprob_chunk",
        "gradient_checkpointing",
        "cpu_threads",
        "peak_tflops",
        "nonfinite_limit",
    },
    "teacher": {"workers"},
    "trainer": FREE["trainer"] | {"steps", "eval_every", "profile_steps"},
}
"""Of a stage that trains: what may differ between its beginning and a resume. Files are compared by what is in them,
and steps where the schedule depends on them."""
