"""Science and mathematics in pictures: questions set as text, figures to compute from, clocks to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from PIL import Image, ImageDraw

from data_curation.corpus.fonts import any_font, latin, wrapped
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.corpus.texts.problems import problems
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

MAX_CHARS = 420
ASK_PRINTED = {"en": "Answer the question in the picture.", "zh": "请回答图中的问题。"}
ASK = {
    "en": {
        "angle": "How many degrees is the angle marked x?",
        "hypotenuse": "How long is the side marked c?",
        "area": "What is the area of the figure?",
        "perimeter": "What is the perimeter of the figure?",
        "clock": "What time does the clock show? Answer as hour:minute.",
        "ruler": "How long is the bar in centimetres?",
    },
    "zh": {
        "angle": "标为 x 的角是多少度？",
        "hypotenuse": "标为 c 的边长是多少？",
        "area": "图形的面积是多少？",
        "perimeter": "图形的周长是多少？",
        "clock": "钟面显示的是几点几分？请按 时:分 回答。",
        "ruler": "这根条形有多少厘米长？",
    },
}
PYTHAGOREAN = ((3, 4, 5), (5, 12, 13), (6, 8, 10), (8, 15, 17), (9, 12, 15), (7, 24, 25), (20, 21, 29), (12, 16, 20))


def printed(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Packaged questions as pictures of text."""
    found = [
        problem
        for problem in problems(materials)
        if in_split(problem.key, split)
        and len(problem.question) <= MAX_CHARS
        and (problem.language == "en" or materials.cjk_font is not None)
    ]
    while found:
        for problem in rng.sample(found, len(found)):
            font = any_font(materials, problem.language, rng.randrange(15, 22), rng)
            lines = wrapped(problem.question, font, rng.randrange(300, 620), by_word=problem.language == "en")
            step = int(font.size * rng.uniform(1.25, 1.6))
            width = int(max(map(font.getlength, lines))) + 32
            paper = tuple(rng.randrange(238, 256) for _ in range(3))
            image = Image.new("RGB", (width, step * len(lines) + 32), paper)
            draw = ImageDraw.Draw(image)
            for row, line in enumerate(lines):
                draw.text((16, 16 + row * step), line, font=font, fill=(20, 20, 30))
            turn = Turn((Picture(image), ASK_PRINTED[problem.language]), boxed(problem.answer.text, problem.reason))
            yield Sample(
                category="stem",
                origin=problem.origin,
                items=(problem.key,),
                language=problem.language,
                turns=(turn,),
                answer=problem.answer,
            )


def figures(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Angles, lengths, areas, clocks and rulers; a figure's numbers are its source item."""
    kinds: tuple[Callable[[Random], tuple[str, str, Answer, Image.Image]], ...] = (
        _triangle, _right_triangle, _rectangle, _clock, _ruler,
    )  # fmt: skip
    while True:
        task, key, answer, image = rng.choice(kinds)(rng)
        if not in_split(f"figure:{key}", split):
            continue
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        yield Sample(
            category="stem",
            origin="drawn",
            items=(f"figure:{key}",),
            language=language,
            turns=(Turn((Picture(image), ASK[language][task]), boxed(answer.text)),),
            answer=answer,
        )


def _triangle(rng: Random) -> tuple[str, str, Answer, Image.Image]:
    """Two angles are given, the third is asked for."""
    a, b = rng.randrange(30, 100), rng.randrange(30, 75)
    image, draw = _canvas(rng, 330, 260)
    base, left = 230, (50.0, 215.0)
    right = (left[0] + base, left[1])
    height = base / (1 / math.tan(math.radians(a)) + 1 / math.tan(math.radians(b)))
    shrink = min(1.0, 175 / height)
    base, height = base * shrink, height * shrink
    right = (left[0] + base, left[1])
    top = (left[0] + height / math.tan(math.radians(a)), left[1] - height)
    draw.polygon([left, right, top], outline=(20, 20, 20), width=2)
    for corner, text in ((left, f"{a}°"), (right, f"{b}°"), (top, "x")):
        _inside(draw, corner, (left, right, top), text)
    return "angle", f"triangle:{a},{b}", Answer(str(180 - a - b), "integer"), image


def _inside(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], corners: tuple[tuple[float, float], ...], text: str
) -> None:
    """Write `text` on the way from a corner to the middle of the figure."""
    x, y = (sum(point[axis] for point in corners) / len(corners) for axis in (0, 1))
    away = math.hypot(x - corner[0], y - corner[1]) or 1
    share = min(0.55, 34 / away)
    place = (corner[0] + share * (x - corner[0]), corner[1] + share * (y - corner[1]))
    draw.text(place, text, font=latin(14), fill=(160, 30, 30), anchor="mm")


def _right_triangle(rng: Random) -> tuple[str, str, Answer, Image.Image]:
    a, b, c = rng.choice(PYTHAGOREAN)
    factor = rng.randrange(1, 4)
    a, b, c = a * factor, b * factor, c * factor
    image, draw = _canvas(rng, 300, 280)
    scale = 180 / max(a, b)
    corner = (70.0, 235.0)
    right, top = (corner[0] + b * scale, corner[1]), (corner[0], corner[1] - a * scale)
    draw.polygon([corner, right, top], outline=(20, 20, 20), width=2)
    draw.rectangle((corner[0], corner[1] - 12, corner[0] + 12, corner[1]), outline=(20, 20, 20))
    font, ink = latin(15), (20, 60, 140)
    draw.text((corner[0] - 8, (corner[1] + top[1]) / 2), str(a), font=font, fill=ink, anchor="rm")
    draw.text(((corner[0] + right[0]) / 2, corner[1] + 6), str(b), font=font, fill=ink, anchor="mt")
    draw.text(((top[0] + right[0]) / 2 + 8, (top[1] + right[1]) / 2 - 8), "c", font=font, fill=ink, anchor="lb")
    return "hypotenuse", f"right:{a},{b}", Answer(str(c), "integer"), image


def _rectangle(rng: Random) -> tuple[str, str, Answer, Image.Image]:
    a, b = rng.randrange(2, 20), rng.randrange(2, 20)
    image, draw = _canvas(rng, 320, 280)
    scale = 190 / max(a, b)
    box = (60, 30, 60 + a * scale, 30 + b * scale)
    draw.rectangle(
        box, outline=(20, 20, 20), fill=rng.choice(((222, 236, 250), (250, 236, 222), (230, 246, 230))), width=2
    )
    draw.text(((box[0] + box[2]) / 2, box[3] + 6), str(a), font=latin(15), fill=(20, 60, 140), anchor="mt")
    draw.text((box[0] - 8, (box[1] + box[3]) / 2), str(b), font=latin(15), fill=(20, 60, 140), anchor="rm")
    task = rng.choice(("area", "perimeter"))
    return task, f"rectangle:{a},{b}", Answer(str(a * b if task == "area" else 2 * (a + b)), "integer"), image


def _clock(rng: Random) -> tuple[str, str, Answer, Image.Image]:
    hour, minute = rng.randrange(1, 13), 5 * rng.randrange(12)
    side = rng.randrange(180, 320)
    image, draw = _canvas(rng, side, side)
    middle, radius = side / 2, side * 0.44
    draw.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), outline=(20, 20, 20), width=4)
    for mark in range(1, 13):
        x, y = _hand(mark / 12, middle, radius * 0.82)
        draw.text((x, y), str(mark), font=latin(side // 14), fill=(20, 20, 20), anchor="mm")
    draw.line(
        (middle, middle, *_hand((hour % 12 + minute / 60) / 12, middle, radius * 0.5)), fill=(20, 20, 20), width=6
    )
    draw.line((middle, middle, *_hand(minute / 60, middle, radius * 0.72)), fill=(170, 30, 30), width=3)
    return "clock", f"clock:{hour}:{minute}", Answer(f"{hour}:{minute:02d}"), image


def _hand(turn: float, middle: float, length: float) -> tuple[float, float]:
    return middle + length * math.sin(2 * math.pi * turn), middle - length * math.cos(2 * math.pi * turn)


def _ruler(rng: Random) -> tuple[str, str, Answer, Image.Image]:
    first, length = rng.randrange(0, 8), rng.randrange(1, 10)
    unit = rng.randrange(22, 34)
    image, draw = _canvas(rng, 18 * unit + 40, 120)
    for mark in range(19):
        x = 20 + mark * unit
        draw.line((x, 70, x, 90), fill=(20, 20, 20), width=2)
        draw.text((x, 94), str(mark), font=latin(12), fill=(20, 20, 20), anchor="mt")
    draw.line((20, 70, 20 + 18 * unit, 70), fill=(20, 20, 20), width=2)
    draw.rectangle(
        (20 + first * unit, 36, 20 + (first + length) * unit, 60), fill=rng.choice(((40, 110, 190), (200, 80, 60)))
    )
    return "ruler", f"ruler:{first},{length}", Answer(str(length), "integer"), image


def _canvas(rng: Random, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), tuple(rng.randrange(240, 256) for _ in range(3)))
    return image, ImageDraw.Draw(image)
