"""Short questions on one picture: shapes and colours of easy-vqa, kinds of garments, flags of countries."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image

from data_curation.corpus.choices import lettered
from data_curation.corpus.documents.maps import PACKAGE as MAPS_PACKAGE
from data_curation.corpus.documents.maps import flag_files
from data_curation.corpus.materials import Materials
from data_curation.corpus.splits import in_split
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources import easy_vqa
from data_curation.sources.items import Split

GARMENTS_PACKAGE = "dataset-fashion-mnist"
GARMENTS: tuple[tuple[str, str], ...] = (
    ("t-shirt", "T恤"), ("trousers", "裤子"), ("pullover", "套头衫"), ("dress", "连衣裙"), ("coat", "外套"),
    ("sandal", "凉鞋"), ("shirt", "衬衫"), ("sneaker", "运动鞋"), ("bag", "包"), ("ankle boot", "短靴"),
)  # fmt: skip
"""Names of the labels 0 to 9."""
YES_NO = ("yes", "no")
"""Left out: three in four such answers of easy-vqa are right without a look at the picture."""
ASK_GARMENT = {"en": "What kind of garment is this?", "zh": "这是哪一类服饰？"}
ASK_FLAG = {"en": "Whose flag is this?", "zh": "这是哪里的旗帜？"}


def shapes(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The questions of easy-vqa on colours and shapes, on the pictures that `curate easy-vqa` gives this split."""
    if "easy_vqa" not in materials:
        return
    origin = "test" if split == "heldout" else "train"
    source = materials.folders["easy_vqa"] / "data" / origin
    questions = json.loads((source / "questions.json").read_text(encoding="utf-8"))
    for question, answer, number in rng.sample(questions, len(questions)):
        if answer in YES_NO or (origin == "train" and (number < easy_vqa.SFT_PICTURES) != (split == "sft")):
            continue
        with Image.open(source / "images" / f"{number}.png") as image:
            picture = Picture(image.convert("RGB"))
        yield _sample("easy_vqa", f"easy_vqa:{origin}/{number}", "en", picture, question, Answer(answer))


def garments(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The kind of a garment: by its name, or as a choice of four."""
    if GARMENTS_PACKAGE not in materials:
        return
    pictures, labels = garment_arrays(materials)
    for index in rng.sample(range(len(labels)), len(labels)):
        key = f"garment:{index}"
        if not in_split(key, split):
            continue
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        names = [name[0 if language == "en" else 1] for name in GARMENTS]
        right = names[labels[index]]
        side = rng.randrange(28, 225)
        picture = Picture(Image.fromarray(pictures[index]).convert("RGB").resize((side, side)))
        wrong = rng.sample([name for name in names if name != right], 3)
        question, answer = lettered(rng, ASK_GARMENT[language], right, wrong)
        yield _sample(GARMENTS_PACKAGE, key, language, picture, question, answer)


@lru_cache(maxsize=2)
def garment_arrays(materials: Materials) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [10000, 28, 28] and labels uint8 [10000] of the package's test part."""
    pictures = gzip.decompress(materials.file(GARMENTS_PACKAGE, "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(materials.file(GARMENTS_PACKAGE, "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(pictures, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def flags(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """The flag of a country, and four countries to choose from; those with a name in both languages."""
    chinese = _chinese_countries(materials)
    flags = [
        ({"en": name, "zh": chinese[name]}, path)
        for name, path in flag_files(materials).items()
        if name in chinese and in_split(f"flag:{path.stem}", split)
    ]
    while len(flags) >= 4:
        language: Language = rng.choices(("en", "zh"), (6, 4))[0]
        (name, path), *others = [(names[language], path) for names, path in rng.sample(flags, 4)]
        question, answer = lettered(rng, ASK_FLAG[language], name, [other for other, _ in others])
        with Image.open(path) as file:
            flag = file.convert("RGBA")
        width = rng.randrange(64, 260)
        flag = flag.resize((width, round(width * flag.height / flag.width)))
        canvas = Image.new("RGB", (flag.width + 20, flag.height + 20), (220, 220, 220))
        canvas.paste(flag, (10, 10), flag)
        yield _sample(MAPS_PACKAGE, f"flag:{path.stem}", language, Picture(canvas), question, answer)


def _chinese_countries(materials: Materials) -> dict[str, str]:
    """English name of a country -> its Chinese one, as flags are called in the package `emoji`."""
    if "emoji" not in materials:
        return {}
    words = materials.folders["emoji"] / "unicode_codes"
    english = json.loads((words / "emoji.json").read_text(encoding="utf-8"))
    chinese = json.loads((words / "emoji_zh.json").read_text(encoding="utf-8"))
    flags = [glyph for glyph in english if len(glyph) == 2 and 0x1F1E6 <= ord(glyph[0]) <= 0x1F1FF]
    return {_country(english[glyph]["en"]): _country(chinese[glyph]) for glyph in flags if glyph in chinese}


def _country(name: str) -> str:
    return name.strip(":").replace("_", " ").removeprefix("旗").strip(" ：:")


def _sample(origin: str, key: str, language: Language, picture: Picture, question: str, answer: Answer) -> Sample:
    turn = Turn((picture, question), boxed(answer.text))
    return Sample(category="vqa", origin=origin, items=(key,), language=language, turns=(turn,), answer=answer)
