"""Offline packing: `pangu-rl pack`, and what a stage of pre-training trains on."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pangu_rl.config.sections.pixels import Area, PixelRange

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def require_shares(name: str, shares: Mapping[str, float]) -> None:
    """
    Raises:
        ValueError: fractions that do not add up to 1, or nothing but zeros.
    """
    total = sum(shares.values())
    if shares and not total:
        raise ValueError(f"the {name} of {', '.join(sorted(shares))} are all 0: nothing would be drawn")
    if shares and max(shares.values()) < 1 and abs(total - 1) > 1e-6:
        raise ValueError(
            f"{name} are fractions that add up to {total:.6g}: make it 1, or give them on a scale with a share of 1 or "
            "more"
        )


class PackingConfig(PixelRange):
    context: PositiveInt
    """Tokens of a pack, at most. Longer samples are left out and named."""
    ranks: PositiveInt
    """Data-parallel ranks: each gets the same number of packs."""
    global_batch: PositiveInt | None = None
    """Packs of a step over all ranks, a multiple of them; null is one per rank."""
    visual_tokens: PositiveInt | None = None
    """At most so many in a pack, where the encoder's memory needs it. Samples with more are left out and named."""
    min_pixels: Area = 56**2
    """Least area that a still picture is shown at. The default and the next are the paper's in every stage."""
    max_pixels: PositiveInt = 1344**2
    """Greatest area."""
    max_frames: PositiveInt = 112
    """Of a video given by its duration and fps; a longer one is sampled more sparsely. The loader's default too."""
    video_pixels: PositiveInt = 11_239_424
    """Budget of all frames of a sample together. This and the next two are the released model's; a stage's own are what
    its model folder's processor says."""
    frame_min_pixels: Area = 100_352
    """Least area of a frame."""
    frame_max_pixels: PositiveInt = 200_704
    """Greatest area of a frame."""
    shares: dict[str, Share] = Field(default_factory=dict)
    """Tokens per source, on any scale (8 and 2, or 0.8 and 0.2); every source is named once, 0 leaves it out. Without
    shares every sample is taken once. Shares that are all below 1 add up to 1."""
    shares_by: Literal["tokens", "samples"] = "tokens"
    """What the shares are of."""
    tokens: PositiveInt | None = None
    """Size of the draw by shares, where a source that has fewer repeats; null is what the scarcest gives once."""
    seed: NonNegativeInt = 0
    """Of the draw, of which alike samples meet in a pack, and of the order of the global batches."""

    @property
    def step_packs(self) -> int:
        """Packs of a step over all ranks."""
        return self.ranks if self.global_batch is None else self.global_batch

    @property
    def visual_limit(self) -> int:
        """Visual tokens that a pack can hold."""
        return self.context if self.visual_tokens is None else self.visual_tokens

    @model_validator(mode="after")
    def batches_divide(self) -> "PackingConfig":
        if self.step_packs % self.ranks:
            raise ValueError(
                f"global_batch {self.step_packs} cannot be dealt equally to ranks {self.ranks}: make it a multiple"
            )
        return self

    @model_validator(mode="after")
    def a_frame_fits(self) -> "PackingConfig":
        if self.frame_min_pixels > min(self.frame_max_pixels, self.video_pixels):
            raise ValueError(
                f"frame_min_pixels {self.frame_min_pixels} exceeds frame_max_pixels {self.frame_max_pixels} or "
                f"video_pixels {self.video_pixels}: lower the first"
            )
        return self

    @model_validator(mode="after")
    def draw_is_by_shares(self) -> "PackingConfig":
        if self.tokens and not self.shares:
            raise ValueError(f"tokens {self.tokens} without shares: give each source one, or leave tokens out")
        if self.tokens and self.shares_by == "samples":
            raise ValueError(f"tokens {self.tokens} with shares_by samples: leave tokens out, or take shares by tokens")
        require_shares("shares", self.shares)
        return self
