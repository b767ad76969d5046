"""Formulas and tables as pictures: LaTeX by Matplotlib's own typesetting, tables as a grid."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from matplotlib import get_data_path
from matplotlib.mathtext import math_to_image
from PIL import Image, ImageDraw, ImageFont

from data_curation.operators.documents._tables import Cell, grid_of

DPI = 150
FONT_SIZE = 18
MARGIN = 8
LINE = "#444444"
MOST_SIDE = 4000


def formula_picture(tex: str) -> Image.Image | None:
    """None of LaTeX that Matplotlib does not know."""
    buffer = io.BytesIO()
    try:
        math_to_image(f"${tex}$", buffer, dpi=DPI, format="png")
    except (ValueError, RuntimeError):
        return None
    return Image.open(buffer).convert("RGB")


def table_picture(cells: list[Cell], font_path: str | None) -> Image.Image | None:
    """None of a table that is too large, or has characters that the font lacks. Raises `BadTable`."""
    grid = grid_of(cells)
    font = _font(font_path)
    if not grid or any(not _has(font, cell.text) for cell in cells):
        return None
    widths = [max(int(font.getlength(row[c].text) / row[c].columns) for row in grid) for c in range(len(grid[0]))]
    lefts = [0]
    for width in widths:
        lefts.append(lefts[-1] + width + 2 * MARGIN)
    height = sum(font.getmetrics()) + 2 * MARGIN
    if max(lefts[-1], height * len(grid)) > MOST_SIDE:
        return None
    picture = Image.new("RGB", (lefts[-1] + 1, height * len(grid) + 1), "white")
    pen = ImageDraw.Draw(picture)
    for cell in cells:
        left, top = lefts[cell.column], cell.row * height
        right, bottom = lefts[cell.column + cell.columns], (cell.row + cell.rows) * height
        pen.rectangle((left, top, right, bottom), fill="#eeeeee" if cell.header else "white", outline=LINE)
        pen.text((left + MARGIN, (top + bottom - height) // 2 + MARGIN), cell.text, fill="black", font=font)
    return picture


@cache
def _font(path: str | None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path or str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), FONT_SIZE)


def _has(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether no character is drawn as the one that stands for those that are not there."""
    missing = bytes(font.getmask("\U0010fffe"))
    return all(character.isspace() or bytes(font.getmask(character)) != missing for character in set(text))
