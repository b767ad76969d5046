"""A thing to place in pictures, with its exact outline, its names, and the key of its source item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from data_curation.corpus.materials import Materials
from data_curation.schema import Language

OPAQUE = 48
"""Alpha from which a pixel belongs to a thing."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """One thing. Two stamps of one name are one source item."""

    key: str
    origin: str
    names: dict[Language, str]
    """In English, and mostly in Chinese."""
    load: Callable[[Materials], Image.Image]
    """Its picture, RGBA, cropped to what is opaque."""
    caption: dict[Language, str]
    """A whole sentence, where the package has one."""
    by_whole_name: bool = False
    """A red star and a blue star may be in one picture; an apple and a red apple may not."""

    @property
    def heads(self) -> frozenset[str]:
        """What no other thing's heads may share where this one is asked for."""
        if self.by_whole_name:
            return frozenset(self.names.values())
        return frozenset({self.names["en"].split()[-1], self.names.get("zh", self.names["en"])[-1]})


def trimmed(image: Image.Image) -> Image.Image:
    """RGBA, cropped to what is opaque."""
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha >= OPAQUE)).getbbox()
    return image.crop(box) if box else image
