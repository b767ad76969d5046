"""Rollout engines: how many, how they sample, what an over-long answer means."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class RolloutConfig(Strict):
    actors: PositiveInt = 1
    """Engine actors; each holds a copy of the weights."""
    devices_per_actor: PositiveInt = 1
    """Tensor-parallel size of an engine on npu and cuda; on cpu, 1."""
    placement: Literal["split", "shared"] = "split"
    """`split`: engines have devices of their own. `shared`: engine i lies on the devices of the learner ranks from
    i * devices_per_actor on, and one of the two sleeps while the other works."""
    sleep_level: Literal[1, 2] | None = None
    """How deep an engine of a shared placement sleeps: 1 keeps its weights in host memory, 2 nowhere, since they come
    again from the learner. Null is the deepest that engines have on the device."""
    completions: PositiveInt = 8
    """Completions per prompt: the group size N."""
    temperature: PositiveFloat = 1.0
    top_p: Share = 1.0
    top_k: NonNegativeInt = 0
    """0 means no limit."""
    max_new_tokens: PositiveInt = 1024
    max_model_tokens: PositiveInt = 2048
    """Prompt plus completion; the engine reserves its KV cache for it."""
    max_concurrent: PositiveInt = 256
    """Sequences an engine decodes at once."""
    kv_cache_gib: PositiveFloat | None = None
    """KV cache on each device of an engine in GiB; null lets the engine take `memory_share` of the device, and 1 GiB on
    a cpu, whose memory is everybody's."""
    memory_share: Share = 0.8
    """The rest is for what a weight sync has under way."""
    eager: bool | None = None
    """Skip graph capture and compilation: a shorter start, slower decoding. Null skips it on a cpu."""
    prefix_caching: bool = False
    """Compute a group's prompt once, in whole blocks of 32 tokens (an NPU: 128), and reuse its keys for the others."""
    max_restarts: NonNegativeInt = 3
    """Restarts of a dead actor before the run ends; its unfinished requests go to the others meanwhile."""
    silence_s: PositiveFloat = 300.0
    """An engine that draws and makes no token for so long is hung and is replaced; an answer may take as long as it
    takes. More than its longest step, which reads whole prompts with their pictures. Nor may a bucket of weights that
    are broadcast take longer. To be built, an engine has this time too, and never less than 600 s."""
    engine: Literal["vllm", "fake"] = "vllm"
    """`fake` echoes deterministic tokens, for unit tests."""
    weight_transport: Literal["auto", "shm", "broadcast"] = "auto"
    """`shm` on one node, `broadcast` (gloo, nccl, hccl) across nodes; auto chooses by the actors' nodes."""
    probe_tolerance: PositiveFloat = 0.25
    """Largest mean |difference| in nats between learner and engine log-probs of the probe after a sync."""

    @model_validator(mode="after")
    def sleepers_share(self) -> "RolloutConfig":
        if self.sleep_level is not None and self.placement == "split":
            raise ValueError(
                f"sleep_level is {self.sleep_level} and placement is split, where no engine sleeps: set it to null, or "
                "placement to shared"
            )
        return self


def require_room(max_prompt_tokens: int, rollout: RolloutConfig) -> None:
    """Prompt and completion fit the engine.

    Raises:
        ValueError: they do not; for pydantic, which adds where.
    """
    longest = max_prompt_tokens + rollout.max_new_tokens
    if longest > rollout.max_model_tokens:
        raise ValueError(
            f"data.max_prompt_tokens {max_prompt_tokens} + rollout.max_new_tokens {rollout.max_new_tokens} = {longest} "
            f"exceed rollout.max_model_tokens {rollout.max_model_tokens}: raise the last to {longest} or shorten one "
            "of the two"
        )


def require_split(rollout: RolloutConfig) -> None:
    """Of a stage in which no learner lives beside the engines.

    Raises:
        ValueError: `placement` is shared; for pydantic, which adds where.
    """
    if rollout.placement == "shared":
        raise ValueError(
            "rollout.placement is shared, and no learner runs beside the engines of this stage: set it to split"
        )
