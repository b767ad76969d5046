"""What every engine of ours is given, whatever it is for: spec -> **arguments of vLLM's `EngineArgs`**."""

from __future__ import annotations

from typing import Any

from rollout.engine import EngineSpec


def common_args(spec: EngineSpec, kv_cache_gib: float | None) -> dict[str, Any]:
    """Model, sizes and memory; without `kv_cache_gib` the cache is what `memory_share` of the device leaves it."""
    rollout = spec.rollout
    cache = {} if kv_cache_gib is None else {"kv_cache_memory_bytes": int(kv_cache_gib * 2**30)}
    return cache | {
        "model": str(spec.model_path),
        "dtype": spec.model.dtype,
        "trust_remote_code": spec.model.trust_remote_code,
        "seed": spec.seed,
        "max_model_len": rollout.max_model_tokens,
        "max_num_seqs": rollout.max_concurrent,
        "tensor_parallel_size": rollout.devices_per_actor,
        "gpu_memory_utilization": rollout.memory_share,
        "enforce_eager": spec.eager,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
