"""The learner: DeepSpeed ranks, optimizer, schedule, packing."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.sections.lora import LoraConfig

ModelPart = Literal["encoder", "connector", "language"]
"""Of a multimodal model: the vision tower; what maps its features to the language model, with the tower's last norm;
and the language model with its embeddings and head."""


Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimizerConfig(Strict):
    lr: PositiveFloat = 1e-6
    encoder_lr_ratio: PositiveFloat = 1.0
    """Factor on `lr` for the vision tower of a multimodal model; the schedule multiplies both."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    grad_clip: PositiveFloat = 1.0
    """Global L2 norm."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    min_lr_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Where linear and cosine end, as a share of `lr`."""


class TunedOptimizerConfig(OptimizerConfig):
    """Of the stages after pre-training, from SFT on."""

    encoder_lr_ratio: PositiveFloat = 0.1
    """Factor on `lr` for the vision tower of a multimodal model (openPangu-VL 4.2); the schedule multiplies both."""


class OffloadConfig(Strict):
    """Host memory in place of the device's: slower, for models that do not fit otherwise."""

    optimizer: Literal["none", "cpu"] = "none"
    """Where AdamW keeps a rank's float32 weights, gradients and moments, and runs. `cpu` needs zero_stage 1 or more."""
    parameters: Literal["none", "cpu"] = "none"
    """Where a rank's part of the weights lies between two uses. `cpu` needs zero_stage 3."""


class LearnerConfig(Strict):
    ranks: PositiveInt = 1
    """One actor each."""
    sequence_parallel: PositiveInt = 1
    """Ranks that share each pack, a divisor of `ranks` and of the model's attention heads: each runs its part of the
    tokens, of the heads and of the pictures. Packs are dealt over the ranks / sequence_parallel groups."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """0 and 1 reduce gradients once a step; 2 and 3 at every micro-batch. bf16 needs 1 or more."""
    overlap_comm: bool | None = None
    """Whether ZeRO 2 and 3 communicate while the device computes; under ZeRO 2 that takes a second reduce bucket. Null
    does so under ZeRO 3 on a device with streams: there every layer waits for its weights."""
    reduce_bucket: PositiveInt | None = None
    """Gradients that ZeRO 2 and 3 reduce at once, in elements; null is 500 million, or all where fewer are trained."""
    prefetch_bucket: NonNegativeInt | None = None
    """Weights that ZeRO 3 gathers ahead of their layer, in elements; null is 50 million."""
    offload: OffloadConfig = OffloadConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    trainable: Annotated[tuple[ModelPart, ...], Field(min_length=1)] = ("encoder", "connector", "language")
    """Parts of a multimodal model that are trained; the others are frozen, and published and exported as they are. A
    text model is trained whole."""
    lora: LoraConfig | None = None
    """Train adapters in the parts of `trainable` and nothing else: gradients, optimizer and checkpoints are the
    adapters' alone. Null trains the weights themselves."""
    pack_tokens: PositiveInt = 2048
    """Capacity of a pack; sequences are packed into it, none is ever cut."""
    micro_batch_tokens: PositiveInt | None = None
    """Packs that together have no more tokens go through the model as one; the loss keeps its packs. Memory grows with
    it, and ZeRO 2 and 3 communicate once for each. Null is a micro-batch for every pack."""
    logprob_chunk: PositiveInt = 2048
    """Targets whose [chunk, V] logits exist at once."""
    gradient_checkpointing: bool = False
    cpu_threads: PositiveInt | None = None
    """Threads of a cpu rank; null shares the cores among the ranks."""
    peak_tflops: PositiveFloat | None = None
    """What one rank's device reaches in `model.dtype`; `speed/mfu` is a share of it. Null measures it at start."""
    nonfinite_limit: PositiveInt = 3
    """Steps in a row that may be skipped for a non-finite gradient before the run stops."""

    @property
    def groups(self) -> int:
        """Data-parallel groups: packs are dealt over them."""
        return self.ranks // self.sequence_parallel

    @property
    def ranks_meet_at_micro_batches(self) -> bool:
        """Whether ranks wait for each other at every micro-batch, not only at the end of a step."""
        return self.zero_stage >= 2

    @model_validator(mode="after")
    def a_micro_batch_holds_a_pack(self) -> "LearnerConfig":
        if self.micro_batch_tokens is not None and self.micro_batch_tokens < self.pack_tokens:
            raise ValueError(
                f"micro_batch_tokens {self.micro_batch_tokens} holds no pack of pack_tokens {self.pack_tokens}: set a "
                "multiple of it, or null"
            )
        return self

    @model_validator(mode="after")
    def communication_is_that_of_the_stage(self) -> "LearnerConfig":
        for name, stages in (("overlap_comm", (2, 3)), ("reduce_bucket", (2, 3)), ("prefetch_bucket", (3,))):
            if getattr(self, name) is not None and self.zero_stage not in stages:
                raise ValueError(
                    f"{name} is {getattr(self, name)} and zero_stage is {self.zero_stage}, which does not use it: set "
                    f"it to null, or zero_stage to {' or '.join(map(str, stages))}"
                )
        return self

    @model_validator(mode="after")
    def groups_are_whole(self) -> "LearnerConfig":
        if self.ranks % self.sequence_parallel:
            raise ValueError(
                f"ranks {self.ranks} are no groups of sequence_parallel {self.sequence_parallel}: make them a multiple"
            )
        return self

    @model_validator(mode="after")
    def offload_suits_the_stage(self) -> "LearnerConfig":
        for name, stage in (("optimizer", 1), ("parameters", 3)):
            if getattr(self.offload, name) != "none" and self.zero_stage < stage:
                raise ValueError(
                    f"offload.{name} is cpu and zero_stage is {self.zero_stage}, which keeps them whole on every rank: "
                    f"set zero_stage to {stage}{' or more' if stage < 3 else ''}, or offload.{name} to none"
                )
        return self


class SftLearnerConfig(LearnerConfig):
    optimizer: TunedOptimizerConfig = TunedOptimizerConfig()
