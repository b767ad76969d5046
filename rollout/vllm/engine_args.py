"""What every engine of ours is given, whatever it is for: spec -> **arguments of vLLM's `EngineArgs`**."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.model_folder import model_config, weight_files
from pangu_rl.checkpoint.model_tensors import read_header
from pangu_rl.config.sections.lora import ALL_LINEAR, LoraConfig
from pretrain.families import family_of
from rollout.engine import EngineSpec

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""For which vLLM has room beside a layer; an adapter takes the next one."""
EMBEDDINGS = {"lm_head", "embed_tokens"}
"""Without adapters. vLLM readies them for one unless told, and on a CPU fails then at log-probs of prompts."""


def adapter_args(lora: LoraConfig, model_path: Path) -> dict[str, Any]:
    """Room for one adapter, in each layer that may have a part of it."""
    layers = _linear_layers(model_path) if lora.targets == ALL_LINEAR else lora.targets
    return {
        "enable_lora": True,
        "max_lora_rank": next(rank for rank in RANKS if rank >= lora.rank),
        "lora_target_modules": sorted({layer.rpartition(".")[2] for layer in layers} - EMBEDDINGS),
    }


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


def _linear_layers(model_path: Path) -> list[str]:
    """Of the language model in a folder, the embedding with them."""
    family = family_of(model_config(model_path), model_path)
    matrices = [
        entry.name
        for file in weight_files(model_path)
        for entry in read_header(file)
        if len(entry.shape) == 2 and entry.name.endswith(".weight")
    ]
    return [
        name.removesuffix(".weight")
        for name in matrices
        if family is None or family.part(family.learned_name(name)) == "language"
    ]
