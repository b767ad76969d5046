"""Rows with pictures: what colour a shape has, on the 64-pixel pictures of the PyPI package `easy-vqa`.

Writes `sft.jsonl` (conversations), `train.jsonl`, `heldout.jsonl`, `heldout_blank.jsonl` (the held-out rows with a
blank picture in each: what is left of the accuracy is guessing), `report.json` and the pictures themselves, which the
rows name relative to the folder. The first three share no picture, and the bytes are the same every time.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from random import Random

from PIL import Image

from data_curation.sources.folders import Row, whole_folder, write_report, write_rows
from data_curation.sources.items import Split
from pangu_rl.errors import DataError

PACKAGE = "easy_vqa"
SEED = 20261122
SFT_PICTURES = 3000
"""The package's training pictures below this number are SFT's, the other thousand GRPO's; its test pictures are held
out."""
HELDOUT_ROWS = 512
COLOURS = frozenset({"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"})
"""Answers of the questions that are taken. Shapes are left out: a small tower from scratch answers them no better than
by chance after 44,000 of them; yes and no too: three in four are right without a look at the picture."""
BLANK = "pictures/blank.png"
BLANK_COLOUR = (242, 242, 242)
"""About the mean of the pictures' light backgrounds."""


def prepare(directory: Path) -> Path:
    """Write rows and pictures into `directory`, whole or not at all; kept if already there.

    Raises:
        DataError: the package is not installed.
    """
    if (directory / "report.json").is_file():
        return directory
    source = _packaged_data()
    with whole_folder(directory) as folder:
        splits = {split: draw(source, split) for split in ("sft", "train", "heldout")}
        splits["heldout_blank"] = [row | {"images": [BLANK]} for row in splits["heldout"]]
        for name, rows in splits.items():
            write_rows(folder / f"{name}.jsonl", rows)
            _copy_pictures(source, folder, rows)
        Image.new("RGB", (64, 64), BLANK_COLOUR).save(folder / BLANK)
        write_report(folder / "report.json", splits)
    return directory


def draw(source: Path, split: Split) -> list[Row]:
    """The rows of one split, shuffled; `source` is the package's `data` folder."""
    origin = "test" if split == "heldout" else "train"
    questions = json.loads((source / origin / "questions.json").read_text(encoding="utf-8"))
    rows = [
        _row(f"{split}-{number:05d}", question, answer, f"pictures/{origin}/{picture}.png", split)
        for number, (question, answer, picture) in enumerate(questions)
        if answer in COLOURS and (origin == "test" or (picture < SFT_PICTURES) == (split == "sft"))
    ]
    Random(f"{SEED}/{split}").shuffle(rows)
    return rows[:HELDOUT_ROWS] if split == "heldout" else rows


def _row(uid: str, question: str, answer: str, picture: str, split: Split) -> Row:
    asked = [{"type": "image"}, {"type": "text", "text": question}]
    messages: list[Row] = [{"role": "user", "content": asked}]
    row: Row = {"id": uid, "messages": messages, "images": [picture]}
    if split == "sft":
        messages.append({"role": "assistant", "content": f"\\boxed{{{answer}}}"})
    else:
        row |= {"answer": answer, "answer_type": "text"}
    return row | {"source": "colour"}


def _copy_pictures(source: Path, folder: Path, rows: list[Row]) -> None:
    for picture in {path for row in rows for path in row["images"]} - {BLANK}:
        _, origin, name = picture.split("/")
        target = folder / picture
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / origin / "images" / name, target)


def _packaged_data() -> Path:
    # Read by path: importing the package runs code that this needs nothing of.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError("package easy-vqa is not installed: run `make setup`, or pip install easy-vqa")
    return Path(spec.origin).parent / "data"
