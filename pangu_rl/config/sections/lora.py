"""Low-rank adapters in place of a model's own weights: rank, scale, and where they stand."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pangu_rl.config.base import Strict

ALL_LINEAR = "all-linear"
MAX_RANK = 512
"""Of an adapter that vLLM adds."""


class LoraConfig(Strict):
    """y = W x + (alpha / rank) B A x with W frozen (arXiv 2106.09685); A starts at random, B at 0.

    There is no dropout: two passes over a pack must agree to the bit, or the first ratio of a step is not 1.
    """

    rank: PositiveInt = 16
    """Rows of A and columns of B; no more than the smaller side of any layer that gets an adapter."""
    alpha: PositiveFloat = 32.0
    """The adapter's product counts alpha / rank times."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = ALL_LINEAR
    """Linear layers by the ends of their names, as peft reads them (`q_proj`, `layers.0.mlp.up_proj`); `all-linear` are
    all of them but the output head. Of a multimodal model those in the parts of `trainable`."""

    @property
    def apart(self) -> bool:
        """Whether engines get the adapters alone."""
        return False


class GrpoLoraConfig(LoraConfig):
    in_engines: Literal["folded", "apart"] = "folded"
    """What engines draw with: weights with the adapter `folded` in, all of which every sync sends; or the adapter
    `apart`, which alone is sent (megabytes) and which vLLM adds in each layer, so that small changes are not rounded
    into large weights. Drawing is slower then, on a CPU by much, and not every model of vLLM's takes an adapter."""

    @property
    def apart(self) -> bool:
        return self.in_engines == "apart"
