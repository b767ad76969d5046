"""Fonts to draw text with: the Latin ones that matplotlib ships, and a Chinese one where its package is there."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from random import Random

from PIL import ImageFont

from data_curation.corpus.materials import Materials
from data_curation.schema import Language

LATIN = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSansMono",
    "STIXGeneral",
)


@lru_cache(maxsize=512)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout gives the same glyph positions whether libraqm is installed or not.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _latin_folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def latin(size: int, name: str = LATIN[0]) -> ImageFont.FreeTypeFont:
    return _font(str(_latin_folder() / f"{name}.ttf"), size)


def any_font(materials: Materials, language: Language, size: int, rng: Random) -> ImageFont.FreeTypeFont:
    """A drawn Latin face, or the Chinese one; draw Chinese only where `materials.cjk_font` is there."""
    if language == "zh":
        assert materials.cjk_font is not None
        return _font(str(materials.cjk_font), size)
    return latin(size, rng.choice(LATIN))


def plain_font(materials: Materials, language: Language, size: int) -> ImageFont.FreeTypeFont:
    """The face of tables, forms and windows."""
    return _font(str(materials.cjk_font), size) if language == "zh" else latin(size)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float, *, by_word: bool = True) -> list[str]:
    """`text` in lines of at most `width` pixels; Chinese breaks between any two characters."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        pieces = paragraph.split(" ") if by_word else list(paragraph)
        joint = " " if by_word else ""
        line = ""
        for piece in pieces:
            longer = f"{line}{joint}{piece}" if line else piece
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = piece
            line = longer
        lines.append(line)
    return lines
