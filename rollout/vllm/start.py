"""An engine from its spec, or one line on what the user can mend: spec -> **vLLM's `LLMEngine`**."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from vllm import EngineArgs, LLMEngine

from pangu_rl.errors import ConfigError, UserError
from rollout.engine import EngineSpec
from rollout.vllm.engine_args import adapter_args, common_args
from rollout.vllm.root_cause import points_elsewhere, root_cause

MIN_PREFILL_TOKENS = 8192
"""Tokens of a step's batch: 64 prompts of 128 tokens enter in one step, and short ones never queue."""
PICTURE_CACHE_GIB = 0.5
"""Cut pictures that the engine keeps between a group's requests: 90 of the largest. vLLM's default is 4."""


def start_engine(spec: EngineSpec) -> LLMEngine:
    """Build the engine; what the user can mend becomes one line.

    Raises:
        UserError: the KV cache does not hold one sequence, more memory was asked for than is free, or the device's
            sampler does not take the settings.
    """
    spec.accelerator.require_top_k(spec.rollout.top_k)
    try:
        return LLMEngine.from_engine_args(EngineArgs(**_engine_args(spec)))
    except (ValueError, RuntimeError, OSError) as error:
        raise _explained(spec, error) from error


def _engine_args(spec: EngineSpec) -> dict[str, Any]:
    rollout = spec.rollout
    arguments = common_args(spec, spec.kv_cache_gib)
    if rollout.prefix_caching:
        arguments["block_size"] = spec.accelerator.cache_block
    if rollout.placement == "shared":
        arguments |= spec.accelerator.sleep_args or {}
    if spec.lora is not None:
        arguments |= adapter_args(spec.lora, spec.model_path)
    if spec.limits is not None:
        arguments["mm_processor_kwargs"] = asdict(spec.limits)
    return arguments | {
        "max_num_batched_tokens": max(rollout.max_model_tokens, MIN_PREFILL_TOKENS),
        # The token drawn after a part of a prompt is taken back, and a seeded generator of the CPU cannot go back.
        "enable_chunked_prefill": spec.accelerator.name != "cpu",
        "enable_prefix_caching": rollout.prefix_caching,
        "mm_processor_cache_gb": PICTURE_CACHE_GIB,
        # The default takes log-probs before the temperature, and those are not the sampler's.
        "logprobs_mode": "processed_logprobs",
        "worker_extension_cls": "rollout.vllm.worker.WeightSyncExtension",
    }


def _explained(spec: EngineSpec, error: Exception) -> Exception:
    rollout, text = spec.rollout, " ".join(str(error).split())
    if points_elsewhere(text):
        text = root_cause() or text
    needed = re.search(r"([\d.]+) GiB KV cache is needed", text)
    if needed or "No available memory for the cache" in text:
        size = f" ({needed[1]} GiB)" if needed else ""
        return ConfigError(
            f"rollout.kv_cache_gib is {spec.kv_cache_gib}: too little for one sequence of rollout.max_model_tokens "
            f"{rollout.max_model_tokens}{size}; raise kv_cache_gib or lower max_model_tokens"
        )
    if spec.lora is not None and "lora" in text.lower():
        return ConfigError(
            f"learner.lora.in_engines is apart, and vLLM adds no adapter to {spec.model_path}: set it to folded; vLLM "
            f"says: {text}"
        )
    if "memory" in text.lower():
        return ConfigError(
            f"rollout.kv_cache_gib {spec.kv_cache_gib} (memory_share {rollout.memory_share}) does not fit this "
            f"machine: lower it, or rollout.actors; vLLM says: {text}"
        )
    return UserError(f"the vLLM engine did not start on {spec.model_path}: {text}")
