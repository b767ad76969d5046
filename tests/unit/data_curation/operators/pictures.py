"""Pictures for the tests of operators: drawn, so that what is wrong with each is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_curation.pipeline.record import Record


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Soft light, some shapes and a little noise, as a photograph has."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = coarse.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(8):
        x, y = draw.integers(0, size[0] - 40), draw.integers(0, size[1] - 40)
        pen.ellipse((x, y, x + draw.integers(20, 90), y + draw.integers(20, 90)), fill=tuple(draw.integers(0, 256, 3)))
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), np.int16)
    noisy = soft + draw.normal(0, 3, soft.shape).astype(np.int16)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def saved(folder: Path, name: str, picture: Image.Image, **how: Any) -> str:
    picture.save(folder / name, **how)
    return name


def shown(folder: Path, *names: str, uid: str = "p", text: str = "What is it?") -> Record:
    row = {"id": uid, "messages": [{"role": "user", "content": text}], "images": list(names)}
    return Record(row, uid, f"rows.jsonl, {uid}", folder)
