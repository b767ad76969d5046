"""What is nearer: things of one height on a ground in perspective, so that size, foot and overlap all tell.

A thing at distance z has the height h/z, and its foot stands h/z times the camera's height below the horizon.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from PIL import Image, ImageDraw

from data_curation.corpus.choices import lettered
from data_curation.corpus.cutouts.backgrounds import canvas_size
from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.scenes import Studio
from data_curation.corpus.labels import Size
from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

STEP = 1.45
"""Each thing is at least this much farther than the one before it."""

ASK = {
    "en": {
        "near": "Which of these is nearest to the camera: {names}?",
        "far": "Which of these is farthest from the camera: {names}?",
        "order": "List from the nearest to the farthest: {names}. Answer with a list.",
        "pair": "Which is nearer to the camera?",
    },
    "zh": {
        "near": "哪一个离镜头最近：{names}？",
        "far": "哪一个离镜头最远：{names}？",
        "order": "请按从近到远的顺序列出：{names}。用列表回答。",
        "pair": "哪一个离镜头更近？",
    },
}


def depth(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Nearest, farthest, the order, or the nearer of two."""
    studio = Studio(materials, split, rng)
    while True:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        things = studio.kinds(rng.randint(2, 4), language)
        picture = Picture(_landscape(studio, things, canvas_size(rng, 240, 520)))
        names = [thing.names[language] for thing in things]
        task = rng.choice(("near", "far", "order", "pair"))
        shuffled = rng.sample(names, len(names))
        question = ASK[language][task].format(names=("、" if language == "zh" else ", ").join(shuffled))
        if task == "pair":
            first, second = sorted(rng.sample(range(len(names)), 2))
            question, answer = lettered(rng, question, names[first], [names[second]])
        elif task == "order":
            answer = Answer(json.dumps(names, ensure_ascii=False), "list")
        else:
            answer = Answer(names[0 if task == "near" else -1])
        yield Sample(
            category="depth",
            origin=things[0].origin,
            items=tuple(thing.key for thing in things),
            language=language,
            turns=(Turn((picture, question), boxed(answer.text)),),
            answer=answer,
        )


def _landscape(studio: Studio, things: list[Cutout], size: Size) -> Image.Image:
    """`things` from the nearest to the farthest, each in a lane of its own, drawn from the farthest on."""
    rng, (width, height) = studio.rng, size
    horizon = int(height * rng.uniform(0.2, 0.4))
    canvas = _ground(rng, size, horizon)
    lanes = rng.sample(range(len(things)), len(things))
    distances = [1.0]
    for _ in things[1:]:
        distances.append(distances[-1] * STEP * rng.uniform(1, 1.15))
    lane_width = width / len(things)
    eye = (height - horizon) * rng.uniform(0.86, 0.97)
    tall = min(eye * rng.uniform(0.7, 1.0), height * 0.6)
    for thing, lane, distance in reversed(list(zip(things, lanes, distances, strict=True))):
        image = thing.load(studio.materials)
        scale = min(tall / image.height, 1.25 * lane_width / image.width) / distance
        image = image.resize((max(8, int(image.width * scale)), max(8, int(image.height * scale))))
        x = int((lane + 0.5) * lane_width - image.width / 2)
        x = min(max(0, x), width - image.width)
        canvas.paste(image, (x, int(horizon + eye / distance - image.height)), image)
    return canvas


def _ground(rng: Random, size: Size, horizon: int) -> Image.Image:
    width, height = size
    sky = (rng.randrange(180, 225), rng.randrange(205, 235), 250)
    ground = (rng.randrange(170, 215), rng.randrange(180, 215), rng.randrange(140, 190))
    line = tuple(channel - 22 for channel in ground)
    canvas = Image.new("RGB", size, sky)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, horizon, width, height), fill=ground)
    for step in range(-12, 13):
        draw.line((width / 2, horizon, width / 2 + step * width / 3, height), fill=line)
    for row in range(1, 14):
        y = horizon + (height - horizon) / (0.75 + row * 0.45)
        draw.line((0, y, width, y), fill=line)
    return canvas
