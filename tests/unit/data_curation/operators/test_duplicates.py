"""Rows that show or say what other rows or held-out ones do, and rows that are only alike."""

from __future__ import annotations

import io
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_curation.operators.duplicates.near_duplicate_pictures import (
    NOISE,
    bands_of,
    differences,
    likeness_of,
    places_apart,
)
from data_curation.operators.text.held_out import held_out
from data_curation.pipeline.record import Drop, Record
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import DataError
from tests.unit.data_curation.operators.pictures import saved, scene, shown
from tests.unit.data_curation.pipeline.builders import lines_of, pipeline, write_jsonl


def reason(verdict) -> str:
    return verdict.reason if isinstance(verdict, Drop) else ""


def test_near_duplicates_of_pictures_and_texts_name_the_row_that_is_kept(tmp_path: Path) -> None:
    """Scaled, compressed and brightened copies are near; another scene is not; another question on the same picture is
    another row, unless the picture alone counts."""
    first, other = scene(7), scene(8)
    saved(tmp_path, "a.png", first)
    saved(tmp_path, "b.jpg", first.resize((200, 150)), quality=40)
    saved(tmp_path, "c.png", first.point(lambda value: min(255, value + 20)))
    saved(tmp_path, "d.png", other)
    rows = [shown(tmp_path, name, uid=name[0]).row for name in ("a.png", "b.jpg", "c.png", "d.png")]
    rows.append(shown(tmp_path, "a.png", uid="e", text="Where is it?").row)
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    near = {"name": "near_duplicate_pictures"}
    run_pipeline(pipeline(source, tmp_path / "one", [near], media_root=str(tmp_path)))
    assert [row["id"] for row in lines_of(tmp_path / "one/rows")] == ["a", "d", "e"]
    assert [line["detail"] for line in lines_of(tmp_path / "one/dropped")] == ["like a", "like a"]
    anyhow = near | {"args": {"per_question": False}}
    run_pipeline(pipeline(source, tmp_path / "other", [anyhow], media_root=str(tmp_path)))
    assert [row["id"] for row in lines_of(tmp_path / "other/rows")] == ["a", "d"]


def anew(picture: Image.Image, size: tuple[int, int]) -> bytes:
    """The hash of a copy of another size and JPEG quality 70."""
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=70)
    return differences(Image.open(file)).tobytes()


def test_areas_of_one_colour_say_nothing_of_a_drawing_that_was_compressed() -> None:
    """Two bars on paper: without a dead zone the noise around them makes 11 of the 256 signs differ."""
    drawing = Image.new("RGB", (320, 240), (250, 250, 250))
    for left, top, colour in ((40, 90, (30, 90, 200)), (180, 40, (200, 60, 30))):
        drawing.paste(colour, (left, top, left + 70, 220))
    own = differences(drawing)
    assert places_apart(own.tobytes(), anew(drawing, (240, 180))) <= 2 and (own > NOISE).sum() == 44


def printed(seed: int, letter: int, justified: bool) -> Image.Image:
    """A page of words of drawn lengths, each a grey bar, since letters are finer than any place."""
    draw = np.random.default_rng(seed)
    page = Image.new("L", (620, 877), 255)
    for top in range(60, 810, 2 * letter):
        left = 60
        while left < 560:
            right = left + letter * int(draw.integers(1, 8)) // 2
            if right > 560 and not justified:
                break
            page.paste(int(draw.integers(90, 150)), (left, top, min(right, 560), top + letter))
            left = right + letter // 2
    return page


@pytest.mark.parametrize("letter", [5, 8, 14])
@pytest.mark.parametrize("justified", [True, False])
def test_pages_of_text_are_alike_to_their_copies_alone(letter: int, justified: bool) -> None:
    """Their margins are the same, and what is between them has few differences that are above noise."""
    pages = [printed(seed, letter, justified) for seed in range(6)]
    own = [differences(page).tobytes() for page in pages]
    assert all(likeness_of(one, anew(page, (465, 658))) >= 1 - 10 / 256 for one, page in zip(own, pages, strict=True))
    assert min(places_apart(one, other) for one, other in combinations(own, 2)) > 10


def test_nearly_blank_pictures_are_nobodys_copies() -> None:
    """Paper, a gradient of 10 over the whole, soft light of a few greys: what they differ in is below what is seen."""
    draw = np.random.default_rng(0)
    soft = [draw.normal(128, 1, (8, 8)).clip(0, 255).astype(np.uint8) for _ in range(8)]
    pictures = [Image.fromarray(one).resize((300, 300), Image.Resampling.BICUBIC) for one in soft]
    pictures += [Image.new("L", (300, 300), 255), Image.new("L", (300, 300), 9)]
    pictures.append(Image.fromarray(np.tile(np.linspace(100, 110, 300).astype(np.uint8), (300, 1))))
    own = [differences(picture).tobytes() for picture in pictures]
    assert {likeness_of(one, other) for one, other in combinations(own, 2)} == {0.0}
    assert places_apart(own[-1], own[-2]) == 0  # frames of a video that are left out


def test_hashes_that_differ_in_so_few_bits_share_a_band_and_others_do_not() -> None:
    """As many bits as are allowed, wherever they are, in one scope. Of hashes that have the six outer rows in common,
    as pages with white margins do, one pair of the 18 is the same for all, rows 0 and 15; of pairs with one such row a
    few are equal by chance, in 16 bits."""
    draw = np.random.default_rng(0)
    scope = np.zeros(200, np.uint64)
    for most_bits in (0, 5, 10, 14):
        one = draw.integers(0, 2**16, (200, 16), dtype=np.uint16)
        other = one.copy()
        for row in other:
            for bit in draw.choice(256, most_bits, replace=False):
                row[bit // 16] ^= np.uint16(1 << int(bit % 16))
        shared = [set(a) & set(b) for a, b in zip(bands_of(one, scope, most_bits), bands_of(other, scope, most_bits))]
        assert all(shared), most_bits
    assert not set(bands_of(one, scope, 10).ravel()) & set(bands_of(one, scope + np.uint64(1), 10).ravel())
    unlike = draw.integers(0, 2**16, (200, 16), dtype=np.uint16)
    unlike[:, :3] = unlike[:, -3:] = 0
    assert 200 * 17 - 10 < len(np.unique(bands_of(unlike, scope, 10))) <= 200 * 17 + 1


def test_near_duplicates_of_texts(tmp_path: Path) -> None:
    """One word of forty changed leaves 5-character shingles 95 % alike; half of the words changed does not."""
    words = [f"word{number}" for number in range(200)]
    texts = {
        "a": words,
        "b": [*words[:100], "changed", *words[101:]],
        "c": [*words[:100], *(f"other{number}" for number in range(100))],
        "d": ["  ".join(words)],
    }
    rows = [{"id": uid, "document": " ".join(text)} for uid, text in texts.items()]
    rows.append({"id": "e", "messages": [{"role": "user", "content": ""}]})
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    run_pipeline(pipeline(source, tmp_path / "out", ["near_duplicate_texts"]))
    assert [row["id"] for row in lines_of(tmp_path / "out/rows")] == ["a", "c", "e"]
    assert json.dumps([line["detail"] for line in lines_of(tmp_path / "out/dropped")]) == '["like a", "like a"]'


def test_one_question_on_several_videos_is_several_rows(tmp_path: Path) -> None:
    """Neither the text nor a picture that is beside each of them makes two of them one; the same video does."""
    saved(tmp_path, "a.png", scene(1))
    row = {"messages": [{"role": "user", "content": "What happens?"}, {"role": "assistant", "content": "They leave."}]}
    shows = {"a": ["1.mp4"], "b": ["2.mp4"], "c": ["1.mp4"], "d": ["1.mp4", "2.mp4"]}
    rows = [row | {"id": uid, "videos": paths} for uid, paths in shows.items()]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    run_pipeline(pipeline(source, tmp_path / "texts", ["near_duplicate_texts"]))
    assert [one["id"] for one in lines_of(tmp_path / "texts/rows")] == ["a", "b", "d"]
    write_jsonl(source, [one | {"images": ["a.png"]} for one in rows])
    near = {"name": "near_duplicate_pictures", "args": {"per_question": False}}
    run_pipeline(pipeline(source, tmp_path / "pictures", [near], media_root=str(tmp_path), shard_mib=1))
    assert [one["id"] for one in lines_of(tmp_path / "pictures/rows")] == ["a", "b", "d"]


def test_a_held_out_question_on_a_video_is_one_on_the_same_video(tmp_path: Path) -> None:
    """By its content, of files and of folders of frames; a video that cannot be read is an error."""
    asked = "How many people cross the street before the lights turn red?"
    for name, content in (("1.mp4", "one"), ("copy.mp4", "one"), ("2.mp4", "two")):
        (tmp_path / name).write_text(content)
    for folder in ("frames", "again"):
        (tmp_path / folder).mkdir()
        saved(tmp_path, f"{folder}/0.png", scene(3))
    held = [{"prompt": asked, "videos": [video], "answer": "2"} for video in ("1.mp4", "frames")]
    write_jsonl(tmp_path / "held.jsonl", held)
    against = {"prompts": [str(tmp_path / "held.jsonl")], "media_root": str(tmp_path)}

    def shows(video: str) -> Record:
        row = {"messages": [{"role": "user", "content": asked}], "videos": [video]}
        return Record(row, "v", "rows.jsonl, v", tmp_path)

    assert [reason(held_out(shows(video), **against)) for video in ("copy.mp4", "again")] == ["held out"] * 2
    assert held_out(shows("2.mp4"), **against) is None
    with pytest.raises(DataError, match=r"gone\.mp4: no video in .* that can be read"):
        held_out(shows("gone.mp4"), **against)


def test_a_held_out_question_is_one_on_the_same_picture_whatever_its_name(tmp_path: Path) -> None:
    asked = "How many red shapes are to the left of the large blue one?"
    for name, seed in (("a.png", 1), ("copy.png", 1), ("other.png", 2)):
        saved(tmp_path, name, scene(seed))
    (tmp_path / "held.jsonl").write_text(json.dumps({"prompt": asked, "images": ["a.png"], "answer": "2"}))
    against = {"prompts": [str(tmp_path / "held.jsonl")], "media_root": str(tmp_path)}
    assert reason(held_out(shown(tmp_path, "copy.png", text=asked), **against)) == "held out"
    assert held_out(shown(tmp_path, "other.png", text=asked), **against) is None
    assert held_out(shown(tmp_path, "copy.png", text="What is it?"), **against) is None
