"""How large pictures are shown, in pixels of area."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from pangu_rl.config.base import Strict

TOKEN_AREA = 28**2
"""Pixels of a token of a picture."""
Area = Annotated[int, Field(ge=TOKEN_AREA)]
"""In pixels, of one token at least."""


class PixelRange(Strict):
    """A section that may say how large pictures are shown."""

    min_pixels: Area | None = None
    """Least area that a picture is shown at; null is what the model folder's processor says."""
    max_pixels: PositiveInt | None = None
    """Greatest area."""

    @model_validator(mode="after")
    def limits_are_a_range(self) -> Self:
        least, greatest = self.min_pixels, self.max_pixels
        if (least is None) != (greatest is None):
            raise ValueError(f"min_pixels {least}, max_pixels {greatest}: set both or neither")
        if least is not None and greatest is not None and least > greatest:
            raise ValueError(f"min_pixels {least} exceeds max_pixels {greatest}: lower the first")
        return self
