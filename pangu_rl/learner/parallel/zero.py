"""The learner's settings -> **DeepSpeed's configuration** -> engine."""

from __future__ import annotations

from typing import Any

from pangu_rl.accelerators import get_accelerator
from pangu_rl.errors import ConfigError
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.weights.offload import offload_settings

REDUCE_BUCKET = 500_000_000
PREFETCH_BUCKET = 50_000_000
"""DeepSpeed's own, in elements. Its bucket of gathered weights under ZeRO 1 and 2 is no setting of ours: torch gathers
all of them in one collective, and DeepSpeed then reads no bucket."""


def check_precision(spec: LearnerSpec) -> None:
    """DeepSpeed has no bf16 engine with float32 accumulation at ZeRO 0."""
    if spec.learner.zero_stage == 0 and spec.model.dtype != "float32":
        raise ConfigError(
            f"learner.zero_stage is 0 and model.dtype is {spec.model.dtype}: gradients would be summed in "
            f"{spec.model.dtype}; set learner.zero_stage=1 (the same memory on one rank, less on several)"
        )


def check_streams(spec: LearnerSpec) -> None:
    """A device without streams computes and communicates in turn."""
    if spec.learner.overlap_comm and not _has_streams(spec):
        raise ConfigError(
            f"learner.overlap_comm is true and the ranks run on {spec.accelerator}, which has no streams to overlap: "
            "set it to null"
        )


def deepspeed_config(spec: LearnerSpec, trained: int) -> dict[str, Any]:
    """DeepSpeed's own configuration for `spec` and a model so many of whose parameters are `trained`."""
    learner = spec.learner
    overlap, prefetch = learner.overlap_comm, learner.prefetch_bucket
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # We say when a step ends: mini-batches differ in their number of packs.
        "managed_gradient_accumulation": False,
        "gradient_clipping": learner.optimizer.grad_clip if learner.zero_stage else 0.0,
        "zero_optimization": {
            "stage": learner.zero_stage,
            "overlap_comm": overlap if overlap is not None else learner.zero_stage == 3 and _has_streams(spec),
            # ZeRO 3 allocates a whole bucket for each dtype: 1.9 GiB beside a model of any size.
            "reduce_bucket_size": learner.reduce_bucket or min(trained, REDUCE_BUCKET),
            "stage3_prefetch_bucket_size": PREFETCH_BUCKET if prefetch is None else prefetch,
            **offload_settings(learner),
        },
        # torch's fused AdamW steps on the CPU too; DeepSpeed's own would be compiled at the first start.
        "zero_force_ds_cpu_optimizer": False,
        # The hook moves a gradient into the float32 sum while it is in the cache.
        "bf16": {"enabled": spec.model.dtype == "bfloat16", "immediate_grad_update": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": None,
    }


def _has_streams(spec: LearnerSpec) -> bool:
    return get_accelerator(spec.accelerator).ray_resource is not None
