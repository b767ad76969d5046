"""Places, outlines and options of the corpus against values worked by hand, and the Debian parts on a made-up tree."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from data_curation.corpus.cutouts import emoji_things, stamps
from data_curation.corpus.cutouts.cutout import trimmed
from data_curation.corpus.cutouts.pool import cutouts, distinct
from data_curation.corpus.cutouts.scenes import Studio
from data_curation.corpus.documents import maps
from data_curation.corpus.documents.maps import covering
from data_curation.corpus.labels import box_tag, labelled, point_tag, region, scaled, thousandths
from data_curation.corpus.materials import Materials, gather
from data_curation.corpus.pictures import puzzles
from data_curation.corpus.pictures.captions import _quad
from data_curation.corpus.splits import SHARES, in_split
from data_curation.corpus.writing import grades_itself
from data_curation.schema import Answer, Picture, Sample, Turn, boxed, row_of
from data_curation.sources.items import Split


@pytest.mark.parametrize(
    ("value", "length", "wanted"),
    [(0, 640, 0), (5.2, 640, 8), (320, 640, 500), (639.9, 640, 999), (640, 640, 999), (-3, 640, 0)],
)
def test_thousandths_round_down_and_end_at_999(value: float, length: int, wanted: int) -> None:
    """5.2 of 640 is 8.125 thousandths; the right edge, 1000, is written 999."""
    assert thousandths(value, length) == wanted


def test_places_are_written_in_the_grammar_of_the_recipe() -> None:
    """x: 64/640 -> 100, 320/640 -> 500; y: 4/500 -> 8, 500/500 -> 999."""
    tag = box_tag((64, 4, 320, 500), (640, 500))
    assert tag == "<|box_start|>(100,008),(500,999)<|box_end|>"
    assert point_tag((5, 5), (640, 500)) == "<|point_start|>(007,010)<|point_end|>"
    assert labelled("cat", [tag]) == f"<|object_ref_start|>cat<|object_ref_end|>{tag}"
    assert region([(64, 4, 320, 500)], (640, 500)) == "[[100, 8, 500, 999]]"


def test_a_box_of_nothing_still_has_an_area() -> None:
    assert scaled((10, 10, 10, 10), (1000, 1000)) == (10, 10, 11, 11)
    assert scaled((999.9, 0, 1000, 1), (1000, 10)) == (998, 0, 999, 100)


def test_covering_boxes_are_the_region() -> None:
    """An L of 20 x 20 with a foot of 20 x 4: two boxes would do, the bands say the same."""
    mask = np.zeros((24, 30), bool)
    mask[2:22, 3:7] = True
    mask[18:22, 3:23] = True
    covered = np.zeros_like(mask)
    for x1, y1, x2, y2 in covering(mask):
        covered[int(y1) : int(y2), int(x1) : int(x2)] = True
    wrong = np.logical_xor(covered, mask)
    assert wrong.sum() <= 4 * 20 and covered[mask].mean() > 0.8
    assert not covered[:17, 8:].any(), "the empty corner of the bounding box is no part of the region"


def test_a_split_is_a_function_of_the_key() -> None:
    keys = [f"thing:{number}" for number in range(4000)]
    shares = {split: sum(in_split(key, split) for key in keys) / 4000 for split in SHARES}
    assert sum(shares.values()) == 1
    assert all(abs(shares[split] - share) < 0.03 for split, share in SHARES.items())
    clips = ("clip:bigbuckbunny", "clip:bikes", "clip:carphone")
    assert [sum(in_split(clip, split) for clip in clips) for split in SHARES] == [1, 1, 1]


def test_options_do_not_tell_the_right_one_by_majority() -> None:
    """In each place either value stands in two of the four options."""
    for seed in range(20):
        options = _quad(Random(seed), ("a", "b", "c"), ("x", "y", "z"))
        assert options[0] == ("a", "b", "c") and len(set(options)) == 4
        counts = [
            sorted({value: place.count(value) for value in place}.values()) for place in zip(*options, strict=True)
        ]
        assert sorted(counts) == [[2, 2], [2, 2], [4]]
    grid = [[0, 1, 2], [3, 4, 5]]
    cells = [[cell for row in option for cell in row] for option in (grid, *puzzles._near_misses(grid, Random(1)))]
    assert sorted(len(set(place)) for place in zip(*cells, strict=True)) == [1, 1, 1, 1, 2, 2]


def test_a_gold_that_does_not_grade_itself_is_seen() -> None:
    def sample(said: str, answer: Answer) -> Sample:
        turn = Turn(("How many?",), said)
        return Sample(category="text", origin="drawn", items=("a",), language="en", turns=(turn,), answer=answer)

    assert grades_itself(sample(boxed("4"), Answer("4", "integer")))
    assert not grades_itself(sample(boxed("5"), Answer("4", "integer")))
    assert not grades_itself(sample("4", Answer("4", "integer")))
    assert not grades_itself(sample(boxed("see image"), Answer("see image")))
    assert grades_itself(
        sample(boxed("<|point_start|>(150,150)<|point_end|>"), Answer("[[100, 100, 200, 200]]", "point"))
    )
    assert not grades_itself(
        sample(boxed("<|point_start|>(250,150)<|point_end|>"), Answer("[[100, 100, 200, 200]]", "point"))
    )


def test_a_row_keeps_the_order_of_text_and_pictures() -> None:
    one, two = Picture(Image.new("RGB", (4, 4))), Picture(Image.new("RGB", (4, 4)))
    turns = (Turn(("A", one, "B"), "first"), Turn((two, "C"), boxed("7")), Turn(("D",), boxed("8")))
    sample = Sample(
        category="dialogue", origin="drawn", items=("k",), language="zh", turns=turns, answer=Answer("8", "integer")
    )
    row = row_of(sample, "u", {one: "1.png", two: "2.png"}, with_response=False)
    assert row["images"] == ["1.png", "2.png"] and row["response"] == "\\boxed{8}"
    assert [message["role"] for message in row["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert [part["type"] for part in row["messages"][1]["content"]] == ["text", "image", "text"]
    assert row["messages"][-1]["content"] == "D"


def test_boxes_of_a_scene_are_where_the_things_are() -> None:
    """Each drawn shape's own colour fills its box's edges and lies nowhere else."""
    studio = Studio(gather(with_debian=False), "sft", Random(5))
    for _ in range(10):
        things = studio.kinds(3, "en")
        scene = studio.scene(things)
        for placed in scene.placed:
            x1, y1, x2, y2 = map(int, placed.box)
            shape = np.asarray(placed.cutout.load(studio.materials).resize((x2 - x1, y2 - y1)))
            here = np.asarray(scene.picture.image)[y1:y2, x1:x2]
            inside = shape[..., 3] > 250
            assert np.abs(here[inside].astype(int) - shape[..., :3][inside]).max() <= 8


def test_things_in_one_question_cannot_be_taken_for_each_other() -> None:
    pool = cutouts(gather(with_debian=False), "sft")
    for seed in range(20):
        heads = [cutout.heads for cutout in distinct(Random(seed), pool, 4, "en")]
        assert len(heads) == 4 and sum(map(len, heads)) == len(frozenset().union(*heads))


def test_a_thing_that_the_font_does_not_draw_is_none(tmp_path: Path) -> None:
    """The names are those of a newer Unicode: the font has a helicopter, and an empty glyph for whatever it lacks."""
    pen = TTGlyphPen(None)
    for corner in ((0, 0), (0, 700), (700, 700), (700, 0)):
        (pen.lineTo if corner != (0, 0) else pen.moveTo)(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "helicopter"])
    font.setupCharacterMap({0x1F681: "helicopter"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "helicopter": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (800, 0), "helicopter": (800, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupPost()
    font.save(tmp_path / emoji_things.FONT)
    words = tmp_path / "unicode_codes"
    words.mkdir()
    (words / "emoji.json").write_text(
        json.dumps({"\U0001f681": {"en": ":helicopter:"}, "\U0001fadc": {"en": ":root_vegetable:"}})
    )
    (words / "emoji_zh.json").write_text("{}")
    materials = Materials({emoji_things.PACKAGE: tmp_path, "emoji": tmp_path})
    assert [thing.key for thing in emoji_things.emoji(materials)] == ["emoji:helicopter"]


# Debian's parts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Materials:
    """Stamps and maps as the packages lay them, made here."""
    folder = tmp_path / "stamps-package" / "usr" / "share" / "tuxpaint" / "stamps" / "animals"
    folder.mkdir(parents=True)
    for number in range(60):
        stamp = Image.new("RGBA", (60, 50))
        ImageDraw.Draw(stamp).rectangle((10, 5, 39, 44), fill=(number, 90, 160, 255))
        stamp.save(folder / f"{number}.png")
        word = f"beast{chr(97 + number // 26)}{chr(97 + number % 26)}"
        (folder / f"{number}.txt").write_text(
            f"A {word}.\nzh_CN.utf8=一只兽{chr(0x4E00 + number)}。\n", encoding="utf-8"
        )
    atlas = tmp_path / "maps-package" / "usr" / "share" / "kgeography"
    atlas.mkdir(parents=True)
    colours = {"North": (200, 0, 0), "Middle": (0, 200, 0), "South": (0, 0, 200)}
    for number in range(40):
        image = Image.new("RGB", (300, 300), (255, 255, 255))
        for index, colour in enumerate(colours.values()):
            ImageDraw.Draw(image).rectangle((30, 100 * index, 209, 100 * index + 79), fill=colour)
        image.save(atlas / f"land{number}.png")
        divisions = "".join(
            f"<division><name>{name}</name><color><red>{r}</red><green>{g}</green><blue>{b}</blue></color></division>"
            for name, (r, g, b) in colours.items()
        )
        text = f"<map><mapFile>land{number}.png</mapFile><name>Land {number}</name>{divisions}</map>"
        (atlas / f"land{number}.kgm").write_text(text, encoding="utf-8")
    return Materials({stamps.PACKAGE: tmp_path / "stamps-package", maps.PACKAGE: tmp_path / "maps-package"})


def test_stamps_have_their_names_and_their_outline(tree: Materials) -> None:
    everything = stamps.stamps(tree)
    assert len(everything) == 60
    assert everything[0].names == {"en": "beastaa", "zh": "兽一"} and everything[0].caption["zh"] == "一只兽一。"
    assert everything[0].load(tree).size == (30, 40), "cropped to what is opaque"
    assert trimmed(Image.new("RGBA", (5, 5))).size == (5, 5), "nothing opaque: as it was"


def test_boxes_on_maps_are_those_of_the_divisions(tree: Materials) -> None:
    """Divisions lie from x = 30 to 210 of 300 (100 and 700 thousandths) and 80 high, 100 apart."""
    tops = {"North": 0, "Middle": 333, "South": 666}
    found = 0
    for sample in islice(maps.maps(tree, "sft", Random(2)), 60):
        assert grades_itself(sample)
        if sample.answer and sample.answer.type == "bbox" and "object_ref" in sample.answer.text:
            name = re.search(r"start\|>(\w+)<", sample.answer.text)[1]
            box = [int(number) for number in re.findall(r"\d{3}", sample.answer.text)]
            wanted = [100, tops[name], 700, tops[name] + 266]
            assert np.abs(np.subtract(box, wanted)).max() <= 5
            found += 1
    assert found > 5


def test_maps_of_one_land_are_one_source_item() -> None:
    assert {maps.land_of(stem) for stem in ("italy", "italyprovince")} == {"italy"}
    assert {maps.land_of(stem) for stem in ("portugal_districts", "portugal_regions")} == {"portugal"}


@pytest.mark.parametrize("split", ["sft", "train", "heldout"])
def test_no_stamp_or_map_of_another_split_is_used(tree: Materials, split: Split) -> None:
    for sample in islice(maps.maps(tree, split, Random(0)), 20):
        assert all(in_split(item, split) for item in sample.items)
    assert all(in_split(cutout.key, split) for cutout in cutouts(tree, split))


def test_missing_packages_are_named_and_nothing_else_changes(tmp_path: Path) -> None:
    materials = gather(with_debian=False)
    assert maps.PACKAGE in materials.missing and maps.PACKAGE not in materials
    assert list(maps.maps(materials, "sft", Random(0))) == []
    assert json.dumps(materials.missing)
