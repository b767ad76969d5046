"""Photographed and painted stamps of the Debian package tuxpaint-stamps-default, with names in two languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from data_curation.corpus.cutouts.cutout import OPAQUE, Cutout, trimmed
from data_curation.corpus.materials import Materials
from data_curation.schema import Language

PACKAGE = "tuxpaint-stamps-default"
MIN_SIDE = 24
MIN_COVER, MAX_LIGHTNESS = 0.15, 225
"""Of a stamp: the share of its box that is opaque, and how light that part is on the mean."""
GENERIC = frozenset((
    "airplane", "animal", "bird", "boat", "building", "bush", "butterfly", "car", "dinosaur", "engine", "fish",
    "flower", "house", "insect", "leaf", "man", "monument", "moon", "mushroom", "nut", "person", "plane", "planet",
    "shell", "ship", "sign", "snake", "star", "sun", "train", "tree", "truck", "woman",
))  # fmt: skip
"""Names that other stamps' things would also answer to."""
_VERB = re.compile(r"\b(?:is|are|eat|your|very|happy|loves?)\b")
UNNAMED_FOLDERS = ("symbols", "military/ammunition", "town/flags", "medical", "people/body_parts", "naturalforces")
_ARTICLE = re.compile(r"^(?:an?|the|some|our|one) ", re.IGNORECASE)
_NAME = re.compile(r"[a-z][a-z -]{2,24}", re.IGNORECASE)
_ZH_MEASURE = re.compile(r"^一[只个条头匹朵棵辆架艘把张件顶颗根座台支枚对双副盏片块杯瓶碗本幅串种位名棟栋]")
_ZH_NAME = re.compile(r"[\u4e00-\u9fff]{1,8}")


@lru_cache(maxsize=2)
def stamps(materials: Materials) -> tuple[Cutout, ...]:
    return tuple(_read_stamps(materials))


def _read_stamps(materials: Materials) -> Iterator[Cutout]:
    if PACKAGE not in materials:
        return
    root = next(materials.folders[PACKAGE].rglob("stamps"))
    for path in sorted(root.rglob("*.png")):
        text = path.with_suffix(".txt")
        folder = path.relative_to(root).parent.as_posix()
        if not text.is_file() or folder.startswith(UNNAMED_FOLDERS):
            continue
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        english = lines[0].strip()
        name = _ARTICLE.sub("", english.rstrip(".!")).lower()
        with Image.open(path) as stamp:
            if not _shows_on_light(stamp):
                continue
        if not _NAME.fullmatch(name) or len(name.split()) > 3 or name in GENERIC or _VERB.search(name):
            continue
        names: dict[Language, str] = {"en": name}
        caption: dict[Language, str] = {"en": english.rstrip(".!") + "."}
        chinese = next((line.partition("=")[2].strip("。！!. ") for line in lines if line.startswith("zh_CN")), "")
        short = _ZH_MEASURE.sub("", chinese)
        if _ZH_NAME.fullmatch(short):
            names["zh"], caption["zh"] = short, chinese + "。"
        yield Cutout(f"stamp:{name}", PACKAGE, names, partial(_opened, path), caption)


def _opened(path: Path, materials: Materials) -> Image.Image:
    with Image.open(path) as stamp:
        return trimmed(stamp.convert("RGBA"))


def _shows_on_light(stamp: Image.Image) -> bool:
    """Large enough, with an outline, and neither a few thin lines nor nearly white."""
    if min(stamp.size) < MIN_SIDE or stamp.mode == "RGB":
        return False
    opaque = np.asarray(stamp.convert("RGBA").getchannel("A")) >= OPAQUE
    lightness = np.asarray(stamp.convert("RGBA").convert("L"))[opaque]
    return bool(opaque.mean() > MIN_COVER and lightness.mean() < MAX_LIGHTNESS)
