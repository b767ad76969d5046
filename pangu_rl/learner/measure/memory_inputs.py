"""What a learner rank's memory depends on beside its model: **micro-batch, settings, kernels** -> memory estimate."""

from __future__ import annotations

from dataclasses import dataclass

from pangu_rl.config.sections.learner import LearnerConfig, ModelPart
from pangu_rl.config.sections.lora import LoraConfig

WIDE = 4
"""Bytes of a float32 number."""


def number_bytes(dtype: str) -> int:
    """Of a number in the model's dtype."""
    return 2 if dtype == "bfloat16" else WIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The largest that goes through the model at once, over all ranks of a sequence group."""

    tokens: int
    targets: int
    patches: int = 0
    """Of distinct pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What of the learner's configuration decides a rank's memory."""

    zero_stage: int = 1
    ranks: int = 1
    sequence_parallel: int = 1
    gradient_checkpointing: bool = False
    chunk: int = 2048
    trainable: tuple[ModelPart, ...] = ("encoder", "connector", "language")
    size: int = 2
    """Bytes of a number in the model's dtype."""
    bucket: int | None = None
    """Elements that ZeRO 2 and 3 reduce at once; None is REDUCE_BUCKET, or all of a smaller model."""
    overlap: bool = False
    """ZeRO 2 then has two buckets."""
    offload_optimizer: bool = False
    offload_parameters: bool = False
    lora: LoraConfig | None = None

    @classmethod
    def of(cls, learner: LearnerConfig, dtype: str) -> Settings:
        return cls(
            zero_stage=learner.zero_stage,
            ranks=learner.ranks,
            sequence_parallel=learner.sequence_parallel,
            gradient_checkpointing=learner.gradient_checkpointing,
            chunk=learner.logprob_chunk,
            trainable=learner.trainable,
            size=number_bytes(dtype),
            bucket=learner.reduce_bucket,
            # Null never overlaps under ZeRO 2, and ZeRO 3 has one bucket whether it overlaps or not.
            overlap=bool(learner.overlap_comm),
            offload_optimizer=learner.offload.optimizer == "cpu",
            offload_parameters=learner.offload.parameters == "cpu",
            lora=learner.lora,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """What the kernels of a kind of device keep and work in."""

    perceptron: int
    """[T, F] kept by a gated perceptron: gate, up and the product, which `down` keeps; plain torch silu(gate) too."""
    query_bytes: int
    """For each number of [T, H, D] that attention's backward pass works in, beside the gradients that it returns."""
    key_bytes: int
    """For each number of [T, K, D], the same."""
    tile: int = 0
    """Elements of the float32 tiles of the head's softmax, two at a time."""
    strip: int = 0
    """Elements that a weight gradient in bf16 copies at a time, to have them the other way round."""


DEVICE = Kernels(perceptron=4, query_bytes=14, key_bytes=12, tile=1 << 26)
"""Plain torch computes the gate on CUDA. A pass of varlen attention returns gradients (2 bytes a number) into float32
sums (4); torch's flash attention makes the queries' in float32 (4), and those of keys and values for every query head
(2 each)."""
HOST = Kernels(perceptron=3, query_bytes=8, key_bytes=12, strip=1 << 23)
"""The compiled kernels. Attention packs keys twice and values once, in float32 where the processor has no tiles for
bf16, and sums the gradients of both in float32 for every query head, fewer where heads share a block."""
