"""Emoji of the font NotoColorEmoji as things, named by the PyPI package `emoji`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache, partial

from PIL import Image, ImageDraw, ImageFont

from data_curation.corpus.cutouts.cutout import Cutout, trimmed
from data_curation.corpus.cutouts.stamps import GENERIC
from data_curation.corpus.materials import Materials
from data_curation.schema import Language

PACKAGE = "fonts-noto-color-emoji"
FONT = "NotoColorEmoji.ttf"
SIZE = 109
"""The one size in which the font's bitmaps are."""
_NAME = re.compile(r"[a-z][a-z ]{2,24}")
_ZH_NAME = re.compile(r"[\u4e00-\u9fff]{1,8}")
_BLOCKS = ((0x1F300, 0x1F5FF), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF))
_NO_THINGS = re.compile(
    r"\b(?:face|person|people|man|men|woman|women|boy|girl|child|baby|hand|hands|button|arrow|clock|thirty|sign|symbol|"
    r"skin|hair|circle|square|diamond|triangle|finger|fist|heart|kiss|couple|family|moon|sunrise|sunset|night|mark|"
    r"level|no|zone|with|tone|input|are|is|wining|prince|princess|mage|fairy|elf|genie|zombie|vampire|mermaid|merman|in|at|on|for|over)\b"
)


@lru_cache(maxsize=2)
def emoji(materials: Materials) -> tuple[Cutout, ...]:
    return tuple(_read_emoji(materials))


def _read_emoji(materials: Materials) -> Iterator[Cutout]:
    if PACKAGE not in materials or "emoji" not in materials:
        return
    font = str(materials.file(PACKAGE, FONT))
    words = materials.folders["emoji"] / "unicode_codes"
    english = json.loads((words / "emoji.json").read_text(encoding="utf-8"))
    chinese = json.loads((words / "emoji_zh.json").read_text(encoding="utf-8"))
    for glyph, entry in sorted(english.items()):
        if len(glyph) != 1 or not any(low <= ord(glyph) <= high for low, high in _BLOCKS):
            continue
        name = entry["en"].strip(":").replace("_", " ").replace("-", " ").lower()
        if not _NAME.fullmatch(name) or len(name.split()) > 3 or _NO_THINGS.search(name) or name in GENERIC:
            continue
        # The list of names is newer than the font: a thing that it does not have would be asked for and not be seen.
        if _face(font).getmask(glyph).getbbox() is None:
            continue
        names: dict[Language, str] = {"en": name}
        short = chinese.get(glyph, "").strip(":").replace("_", "")
        if _ZH_NAME.fullmatch(short):
            names["zh"] = short
        yield Cutout(f"emoji:{name}", PACKAGE, names, partial(_image, glyph), {})


def _image(glyph: str, materials: Materials) -> Image.Image:
    """RGBA, cropped to what is opaque."""
    return trimmed(_rendered(glyph, str(materials.file(PACKAGE, FONT))))


@lru_cache(maxsize=2048)
def _rendered(glyph: str, font: str) -> Image.Image:
    canvas = Image.new("RGBA", (150, 150))
    ImageDraw.Draw(canvas).text((5, 5), glyph, font=_face(font), embedded_color=True)
    return canvas


@lru_cache(maxsize=1)
def _face(font: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, SIZE, layout_engine=ImageFont.Layout.BASIC)
