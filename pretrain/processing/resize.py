"""Which size a picture is shown to the model at: native resolution, in whole 28 x 28 tokens. Sizes -> **sizes**.

A token of the language model covers 2 x 2 patches of 14 x 14 pixels, so both sides become multiples of 28; the area is
kept between two limits and the shape as near as the multiples allow.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.config.sections.pixels import PixelRange
from pangu_rl.errors import ConfigError, DataError

PATCH = 14
"""Side of a patch, in pixels."""
MERGE = 2
"""Patches of a token along each side."""
TOKEN = MERGE * PATCH
"""Side of a token, in pixels."""
MAX_ASPECT = 200
SMALL_EDGE = 2 * TOKEN
"""A picture with a side of at most one token is first enlarged until its short side has this many pixels."""


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Least and greatest area, in pixels, that a picture is shown at. The default is the papers' training range."""

    min_pixels: int = 56**2
    max_pixels: int = 1344**2

    def __post_init__(self) -> None:
        if not TOKEN**2 <= self.min_pixels <= self.max_pixels:
            raise ConfigError(
                f"min_pixels {self.min_pixels} and max_pixels {self.max_pixels}: must ascend from {TOKEN**2}, one token"
            )

    @classmethod
    def of(cls, section: PixelRange) -> PixelLimits | None:
        """Those that `section` sets; None if it sets none."""
        if section.min_pixels is None or section.max_pixels is None:
            return None
        return cls(section.min_pixels, section.max_pixels)


TRAINING = PixelLimits()
"""4 to 2304 tokens: every stage of the openPangu-VL recipe (its table 2)."""


def smart_resize(height: int, width: int, limits: PixelLimits) -> tuple[int, int]:
    """(height, width) that a picture of this size is shown at, multiples of 28.

    Each side is rounded to a multiple; an area over the limit is scaled down to it with both sides rounded down, one
    under it is scaled up with both rounded up. Where the two limits leave no such size, the greater one is kept.

    Raises:
        DataError: one side is more than 200 times the other.
    """
    require_aspect(height, width)
    height, width = enlarge_small(height, width)
    sides = sides_within(height, width, TOKEN, limits)
    # Only a thin picture under tight limits: its short side could not shrink as far as its area had to.
    longest = limits.max_pixels // min(sides) // TOKEN * TOKEN
    return min(sides[0], longest), min(sides[1], longest)


def require_aspect(height: int, width: int) -> None:
    """
    Raises:
        DataError: one side is more than 200 times the other.
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        aspect = max(height, width) / max(min(height, width), 1)
        raise DataError(f"{width} x {height} pixels: the aspect ratio {aspect:.1f} is over the limit of {MAX_ASPECT}")


def sides_within(height: int, width: int, token: int, limits: PixelLimits) -> tuple[int, int]:
    """(height, width) that a picture is shown at, multiples of `token` pixels, as `smart_resize` of Qwen2-VL."""
    sides = [round(side / token) * token for side in (height, width)]
    if sides[0] * sides[1] > limits.max_pixels:
        scale = math.sqrt(height * width / limits.max_pixels)
        sides = [max(token, math.floor(side / scale / token) * token) for side in (height, width)]
    elif sides[0] * sides[1] < limits.min_pixels:
        scale = math.sqrt(limits.min_pixels / (height * width))
        sides = [math.ceil(side * scale / token) * token for side in (height, width)]
    return sides[0], sides[1]


def enlarge_small(height: int, width: int) -> tuple[int, int]:
    """The size that a picture thinner than a token is enlarged to before anything else; any other size unchanged."""
    short = min(height, width)
    if short > TOKEN:
        return height, width
    scale = SMALL_EDGE / short
    return (SMALL_EDGE, int(scale * width)) if width >= height else (int(scale * height), SMALL_EDGE)


def grid_of(height: int, width: int, limits: PixelLimits) -> tuple[int, int, int]:
    """(1, h, w) in patches of a still picture of this size; its tokens are h * w / 4. Raises as `smart_resize`."""
    shown = smart_resize(height, width, limits)
    return 1, shown[0] // PATCH, shown[1] // PATCH


def read_limits(model_path: Path) -> PixelLimits:
    """The limits that a model folder's processor was saved with.

    They stand in `preprocessor_config.json`, or under `image_processor` in `processor_config.json`, which wins as in
    transformers; as `min_pixels` and `max_pixels`, or as Qwen's `size`.

    Raises:
        ConfigError: neither file is there or readable, or the limits are missing or no limits.
    """
    config = read_processor(model_path)
    size = config.get("size")
    if isinstance(size, dict) and "shortest_edge" in size:
        config = {"min_pixels": size["shortest_edge"], "max_pixels": size.get("longest_edge"), **config}
    found = config.get("min_pixels"), config.get("max_pixels")
    if not all(isinstance(value, int) for value in found):
        raise ConfigError(
            f"{model_path}: its preprocessor_config.json gives min_pixels {found[0]} and max_pixels {found[1]}: "
            "write both, in pixels"
        )
    return PixelLimits(*found)


def read_processor(model_path: Path) -> dict[str, Any]:
    """What a model folder says of its image processor, in one of the two files that transformers writes; {} if nothing.

    Raises:
        ConfigError: a file that cannot be read, or holds no JSON object.
    """
    combined = _read_json(model_path / "processor_config.json")
    return combined.get("image_processor") or _read_json(model_path / "preprocessor_config.json") or combined


def _read_json(path: Path) -> dict[str, Any]:
    """{} if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no JSON object")
    return content
