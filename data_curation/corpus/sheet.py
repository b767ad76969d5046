"""`sheet.png`: a few samples of every category as a person would look at them, with question, answer and gold boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data_curation.corpus.fonts import plain_font, wrapped
from data_curation.corpus.materials import Materials
from data_curation.schema import BOX_TYPES, CATEGORIES, Row
from pangu_rl.grounding_labels import box, read_labels, shapes_of

EACH = 6
WIDTH, PICTURES_HEIGHT, HEIGHT = 330, 230, 330
FONT_SIZE = 12
_LISTED = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")


def draw_sheet(folder: Path, rows: Sequence[Row], materials: Materials) -> None:
    """A line of samples for each category, spread over its rows."""
    sheet = Image.new("RGB", (EACH * WIDTH, len(CATEGORIES) * HEIGHT), (120, 120, 120))
    for y, category in enumerate(CATEGORIES):
        found = [row for row in rows if row["source"] == category]
        for x, row in enumerate(found[:: max(1, len(found) // EACH)][:EACH]):
            sheet.paste(_cell(folder, row, materials), (x * WIDTH, y * HEIGHT))
    sheet.save(folder / "sheet.png")


def _cell(folder: Path, row: Row, materials: Materials) -> Image.Image:
    cell = Image.new("RGB", (WIDTH - 4, HEIGHT - 4), (255, 255, 255))
    images = row["images"]
    columns = 1 if len(images) == 1 else 2 if len(images) <= 4 else 3
    lines = -(-len(images) // columns) or 1
    width, height = (WIDTH - 8) // columns, PICTURES_HEIGHT // lines
    for number, path in enumerate(images):
        with Image.open(folder / path) as file:
            image = file.convert("RGB")
        if len(images) == 1:
            _mark(image, row)
        image.thumbnail((width - 4, height - 4))
        cell.paste(image, (number % columns * width + 2, number // columns * height + 2))
    font = plain_font(materials, "zh" if materials.cjk_font else "en", FONT_SIZE)
    text = wrapped(_words(row), font, WIDTH - 12, by_word=False)
    top = PICTURES_HEIGHT + 2 if images else 4
    draw = ImageDraw.Draw(cell)
    for number, line in enumerate(text[: (HEIGHT - 6 - top) // (FONT_SIZE + 2)]):
        draw.text((4, top + number * (FONT_SIZE + 2)), line, font=font, fill=(0, 0, 0))
    return cell


def _mark(image: Image.Image, row: Row) -> None:
    """The gold's boxes and quadrilaterals in red, the response's points in magenta."""
    if row.get("answer_type") not in BOX_TYPES:
        return
    draw, (width, height) = ImageDraw.Draw(image), (image.width / 1000, image.height / 1000)
    golds = [
        *shapes_of(read_labels(row["answer"]), "box", "quad"),
        *(box([int(number) for number in found]) for found in _LISTED.findall(row["answer"])),
    ]
    for shape in golds:
        corners = [(x * width, y * height) for x, y in shape.corners]
        (draw.rectangle if shape.kind == "box" else draw.polygon)(corners, outline=(255, 0, 0), width=2)
    for point in shapes_of(read_labels(_response(row)), "point"):
        [(x, y)] = point.corners
        draw.ellipse([x * width - 4, y * height - 4, x * width + 4, y * height + 4], fill=(255, 0, 255))


def _words(row: Row) -> str:
    """The conversation in one paragraph, special tokens shortened."""
    turns = [message for message in row["messages"] if message["role"] != "system"]
    said = " ".join(f"{'Q' if turn['role'] == 'user' else 'A'}: {_text(turn['content'])}" for turn in turns)
    whole = said if turns[-1]["role"] == "assistant" else f"{said} A: {row['response']}"
    whole = whole.replace("<|object_ref_start|>", "").replace("<|object_ref_end|>", " ")
    return re.sub(r"<\|\w+\|>", "", whole).replace("\n", " / ")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else "[#]" for part in content)


def _response(row: Row) -> str:
    return row.get("response") or row["messages"][-1]["content"]
