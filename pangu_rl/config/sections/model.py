"""The model that a stage starts from."""

from typing import Literal

from pangu_rl.config.base import Strict


class ModelConfig(Strict):
    path: str
    """Hugging Face folder with config, tokenizer and safetensors, or the name of one on the hub, such as
    `Qwen/Qwen2.5-0.5B-Instruct`, with `@REVISION` if wanted: taken from the local hub cache, or downloaded into it
    unless `HF_HUB_OFFLINE` is set. `cache://...` is what `pangu-rl curate` prepared. Or a run directory: the model that
    the run made, of its newest checkpoint."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Dtype of the forward pass in learner and engine; the optimizer's master weights are fp32."""
    chat_template: str | None = None
    """A Jinja file to use instead of the tokenizer's own template."""
    trust_remote_code: bool = False
    """Leave off: a model folder then runs no code of its own, its tokenizer neither, and nobody is asked."""


class TrainedModelConfig(ModelConfig):
    """Of a stage with a learner."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Dtype of the forward pass in learner and engine; the optimizer's master weights are fp32."""
