"""Pictures whose answer is a place -> **rows for SFT, GRPO, evaluation**: tilted rectangles, discs to point at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from pangu_rl.grounding_labels import LARGEST, Label, Shape, write_label

SIDE = 112
"""Pixels: 16 tokens."""
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 60, 220), "yellow": (230, 220, 40)}
SPLITS = {"sft": 3000, "train": 1200, "heldout": 400}
SYSTEM = {"role": "system", "content": "Put the final answer in \\boxed{}."}
MOST = 4
"""Discs of a picture."""
Place = tuple[float, float]


def write_places(folder: Path, seed: int) -> None:
    """`quads_<split>.jsonl` and `points_<split>.jsonl`, their pictures in `media/places`."""
    (folder / "media" / "places").mkdir(parents=True)
    rng = Random(seed)
    for task, draw in DRAWN.items():
        for split, count in SPLITS.items():
            rows = []
            for number in range(count):
                name = f"places/{task}_{split}_{number}.png"
                picture, asked, said, gold = draw(rng)
                picture.save(folder / "media" / name)
                messages = [SYSTEM, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}]
                if split == "sft":
                    messages.append({"role": "assistant", "content": f"\\boxed{{{said}}}"})
                row = {"id": f"{task}-{split}-{number}", "messages": messages, "images": [name], "source": task}
                rows.append(row | ({} if split == "sft" else gold))
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{task}_{split}.jsonl").write_text(text, encoding="utf-8")


def quadrilateral(rng: Random) -> tuple[Image.Image, str, str, dict[str, Any]]:
    """A tilted rectangle: picture, question, what is to be said, columns of the gold."""
    colour = rng.choice(list(COLOURS))
    picture, pen = _ground(rng)
    half_width, half_height = rng.uniform(20, 36), rng.uniform(10, 22)
    angle, reach = rng.uniform(0, math.pi), math.hypot(half_width, half_height) + 1
    middle = rng.uniform(reach, SIDE - reach), rng.uniform(reach, SIDE - reach)
    corners = clockwise([_turned(middle, (sx * half_width, sy * half_height), angle) for sx, sy in _SIGNS])
    pen.polygon(corners, fill=COLOURS[colour])
    label = write_label(Label((Shape("quad", tuple(map(_thousandths, corners))),), colour))
    gold = {"answer": label, "answer_type": "quads", "coordinates": "0-999"}
    return picture, f"Give the quadrilateral around the {colour} shape.", label, gold


def discs(rng: Random) -> tuple[Image.Image, str, str, dict[str, Any]]:
    """One to four discs of a colour, in the order of lines; a point is right anywhere in the box around its disc."""
    colour = rng.choice(list(COLOURS))
    picture, pen = _ground(rng)
    cells = [(x, y) for y in range(3) for x in range(3)]
    boxes = []
    for column, line in sorted(rng.sample(cells, rng.randint(1, MOST)), key=lambda cell: cell[::-1]):
        radius, cell = rng.uniform(10, 17), SIDE / 3
        x, y = (cell * place + rng.uniform(radius + 1, cell - radius - 1) for place in (column, line))
        boxes.append((x - radius, y - radius, x + radius, y + radius))
        pen.ellipse(boxes[-1], fill=COLOURS[colour])
    points = tuple(Shape("point", (_thousandths(((x1 + x2) / 2, (y1 + y2) / 2)),)) for x1, y1, x2, y2 in boxes)
    golds = [[*_thousandths(box[:2]), *_thousandths(box[2:])] for box in boxes]
    gold = {"answer": json.dumps(golds), "answer_type": "point_count", "coordinates": "0-999"}
    said = f"{write_label(Label(points))} {len(boxes)}"
    return picture, f"Point to each {colour} disc, then say how many there are.", said, gold


DRAWN: dict[str, Callable[[Random], tuple[Image.Image, str, str, dict[str, Any]]]] = {
    "quads": quadrilateral,
    "points": discs,
}
_SIGNS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def clockwise(corners: list[Place]) -> list[Place]:
    """Corners that go around, from the one nearest to the upper left."""
    first = min(range(len(corners)), key=lambda index: sum(corners[index]))
    return corners[first:] + corners[:first]


def _ground(rng: Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    level = rng.randint(90, 160)
    picture = Image.new("RGB", (SIDE, SIDE), (level, level, level))
    return picture, ImageDraw.Draw(picture)


def _turned(middle: Place, offset: Place, angle: float) -> Place:
    """Clockwise on a picture, whose y grows downwards."""
    cos, sin = math.cos(angle), math.sin(angle)
    return middle[0] + cos * offset[0] - sin * offset[1], middle[1] + sin * offset[0] + cos * offset[1]


def _thousandths(place: Place) -> tuple[int, int]:
    x, y = (min(LARGEST, int(value * (LARGEST + 1) / SIDE)) for value in place)
    return x, y
