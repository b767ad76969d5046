"""Which pictures a row names and where they stand: every picture has one place, at a part, a marker or in front."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from pangu_rl.data import load_conversations, load_prompts
from pangu_rl.data.fields.columns import Columns
from pangu_rl.data.images import with_image_parts
from pangu_rl.data.media.columns import named_media
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Prompt
from pretrain.families.pangu import Pangu
from pretrain.processing.embedded import keep
from pretrain.processing.media_root import open_inside
from tests.unit.data.vl_folder import build_vl_folder

TEXT = {"type": "text", "text": "Which is larger?"}
IMAGE = {"type": "image"}
PLAIN = [{"role": "system", "content": "Look."}, {"role": "user", "content": "Which is larger?"}]
PARTS = [{"role": "user", "content": [IMAGE, TEXT, IMAGE]}]


def jsonl(folder: Path, *rows: dict) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_plain_strings_show_all_pictures_before_the_first_users_text() -> None:
    assert with_image_parts(PLAIN, 2) == [
        PLAIN[0],
        {"role": "user", "content": [IMAGE, IMAGE, {"type": "text", "text": "Which is larger?"}]},
    ]
    later = [*PLAIN, {"role": "assistant", "content": "b"}, {"role": "user", "content": "Sure?"}]
    assert with_image_parts(later, 1)[2:] == later[2:]


def test_parts_and_rows_without_pictures_stay_as_they_are() -> None:
    assert with_image_parts(PARTS, 2) == PARTS
    assert with_image_parts(PLAIN, 0) == PLAIN


def test_rows_keep_messages_and_paths_as_written(tmp_path: Path) -> None:
    rows = [
        {"messages": PLAIN, "answer": "b", "images": ["a.png", "b.png"]},
        {"messages": PARTS, "answer": "b", "images": ["a.png", "b.png"]},
        {"messages": PLAIN, "answer": "b", "images": None},
    ]
    loaded = load_prompts(jsonl(tmp_path, *rows)).records
    assert [prompt.images for prompt in loaded] == [("a.png", "b.png"), ("a.png", "b.png"), ()]
    assert [list(prompt.messages) for prompt in loaded] == [PLAIN, PARTS, PLAIN]


def test_parquet_gives_every_part_every_key_and_the_nulls_are_no_part_of_it(tmp_path: Path) -> None:
    rows = [{"messages": PARTS, "answer": "b", "images": ["a.png", "b.png"]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    [prompt] = load_prompts(tmp_path / "set.parquet").records
    assert list(prompt.messages) == PARTS


BAD = {
    "more pictures than parts": (
        PARTS,
        ["a.png", "b.png", "c.png"],
        r"3 pictures \(a\.png, b\.png, c\.png\) .* 2 image",
    ),
    "fewer pictures than parts": (PARTS, ["a.png"], r"1 picture \(a\.png\) and messages have 2 image parts"),
    "parts and no pictures": (PARTS, [], r"0 pictures and messages have 2 image parts"),
    "parts of text alone": ([{"role": "user", "content": [TEXT]}], ["a.png"], r"1 picture .* have 0 image parts"),
    "no user to show it to": ([PLAIN[0]], ["a.png"], r"1 picture \(a\.png\) and messages have no user turn"),
}


@pytest.mark.parametrize(("messages", "images", "reason"), BAD.values(), ids=BAD.keys())
def test_pictures_and_places_that_do_not_match(tmp_path: Path, messages: list, images: list, reason: str) -> None:
    good = {"messages": PLAIN, "answer": "b"}
    path = jsonl(tmp_path, good, {"messages": messages, "answer": "b", "images": images})
    with pytest.raises(DataError, match=rf"set\.jsonl, row 2: key images names {reason}"):
        load_prompts(path)
    assert len(load_prompts(path, on_bad_row="skip").records) == 1


def test_conversations_have_pictures_too_but_the_assistant_shows_none(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "b"}
    rows = [
        {"messages": [*PARTS, answer], "images": ["a.png", "b.png"]},
        {"prompt": "What?", "response": "b", "images": ["a.png"]},
    ]
    assert [row.images for row in load_conversations(jsonl(tmp_path, *rows)).records] == [
        ("a.png", "b.png"),
        ("a.png",),
    ]
    drawn = {"role": "assistant", "content": [IMAGE]}
    with pytest.raises(DataError, match=r"messages\[1\] is an assistant turn with an image part"):
        load_conversations(jsonl(tmp_path, {"messages": [PARTS[0], drawn], "images": ["a.png"] * 3}))


def test_named_pictures_are_those_of_sound_rows_once_each(tmp_path: Path) -> None:
    rows = [{"images": ["b.png", "a.png"]}, {"images": 3}, {"prompt": "x"}, {"images": ["a.png", "c.png"]}]
    assert named_media(jsonl(tmp_path, *rows), Columns()) == ["b.png", "a.png", "c.png"]


def test_named_media_are_those_of_every_format(tmp_path: Path) -> None:
    """LLaVA's one `image`, ms-swift's text in place of a list, verl's objects, and a column that is renamed."""
    rows = [
        {"conversations": [], "image": "a.png", "images": None},
        {"image": ["b.png"], "video": "v.mp4"},
        {"query": "?", "images": "c.png"},
        {"prompt": [], "videos": [{"video": "w.mp4"}]},
        {"picture": "d.png", "images": None, "image": 17},
    ]
    named = ["a.png", "b.png", "v.mp4", "c.png", "w.mp4"]
    assert named_media(jsonl(tmp_path, *rows), Columns()) == named
    assert named_media(jsonl(tmp_path, *rows), Columns({"picture": "images"})) == [*named, "d.png"]


def test_rows_can_be_judged_once_more(tmp_path: Path) -> None:
    """As the audit of the pictures does, whose result comes after the rows are read; blank lines count."""
    path = tmp_path / "set.jsonl"
    rows = [json.dumps({"id": uid, "prompt": "?", "answer": "1", "images": [f"{uid}.png"]}) for uid in "abc"]
    path.write_text("\n\n".join(rows))

    def broken(prompt: Prompt) -> str | None:
        return "b.png is broken" if prompt.uid == "b" else None

    loaded = load_prompts(path, on_bad_row="skip").without(broken)
    assert [prompt.uid for prompt in loaded.records] == ["a", "c"]
    assert loaded.skipped == [f"{path}, row 3: b.png is broken"]
    with pytest.raises(DataError, match=r"row 3: b\.png is broken \(mend it, or set data\.on_bad_row to skip\)"):
        load_prompts(path).without(broken)
    with pytest.raises(DataError, match=r"no usable row; the first of 3: .* row 1: bad"):
        load_prompts(path, on_bad_row="skip").without(lambda prompt: "bad")


def test_what_the_configuration_lacks_is_no_bad_row(tmp_path: Path) -> None:
    """A missing setting ends the run with the first row that needs it, also where bad rows are skipped."""

    def check(prompt: Prompt) -> str | None:
        raise ConfigError("data.media_root is not set")

    with pytest.raises(ConfigError, match=r"set\.jsonl, row 1: data\.media_root is not set"):
        load_prompts(jsonl(tmp_path, {"prompt": "?", "answer": "1"}), on_bad_row="skip", check=check)


def test_markers_say_where_pictures_stand() -> None:
    """One for each, in any of the user's turns; the text around them stays as it is."""
    turns = [
        {"role": "user", "content": "<image>\nA or <image>?"},
        {"role": "assistant", "content": "<image> A"},
        {"role": "user", "content": "And <image>"},
    ]
    assert with_image_parts(turns, 3) == [
        {"role": "user", "content": [IMAGE, {"type": "text", "text": "\nA or "}, IMAGE, {"type": "text", "text": "?"}]},
        turns[1],
        {"role": "user", "content": [{"type": "text", "text": "And "}, IMAGE]},
    ]


@pytest.mark.parametrize("markers", [1, 3])
def test_markers_that_are_not_as_many_as_the_pictures(tmp_path: Path, markers: int) -> None:
    row = {"prompt": "<image>" * markers + "?", "answer": "b", "images": ["a.png", "b.png"]}
    with pytest.raises(DataError, match=rf"names 2 pictures \(a\.png, b\.png\) and the text has {markers} <image>"):
        load_prompts(jsonl(tmp_path, row))


def test_markers_that_stay_text_are_told_once_per_file(tmp_path: Path) -> None:
    rows = [
        {"prompt": "In HTML, <img> or <image>?", "answer": "b"},
        {"prompt": "<img> again, and <|image_pad|>", "answer": "b"},
        {"prompt": "<image>?", "answer": "b", "images": ["a.png"]},
    ]
    notes = load_prompts(jsonl(tmp_path, *rows)).notes
    assert [note.split(" as text")[0] for note in notes] == [
        "set.jsonl: <image> stands in 1 rows",
        "set.jsonl: <img> stands in 2 rows",
        "set.jsonl: <|image_pad|> stands in 1 rows",
    ]


def test_bytes_within_a_row_are_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the file that their path names: as `datasets` and others write them, in Parquet and as data addresses."""
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    content = b"the bytes of a picture"
    digest = hashlib.sha256(content).hexdigest()
    address = "data:image/png;base64," + base64.b64encode(content).decode()
    rows = [
        {
            "prompt": "a",
            "answer": "b",
            "images": [{"bytes": content, "path": "0.png"}, {"bytes": content, "path": None}],
        }
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    [prompt] = load_prompts(tmp_path / "set.parquet").records
    assert prompt.images == (f"embedded:{digest}/0.png", f"embedded:{digest}")
    [prompt] = load_prompts(jsonl(tmp_path, {"prompt": "a", "answer": "b", "images": [address]})).records
    assert prompt.images == (f"embedded:{digest}",)
    assert open_inside(prompt.images[0], tmp_path / "no such root").read() == content
    for image in ({"bytes": "text", "path": "a.png"}, {"url": "a.png"}, "data:image/png;base64,%%%", "", 3):
        with pytest.raises(DataError, match=r"(picture|images)"):
            load_prompts(jsonl(tmp_path, {"prompt": "a", "answer": "b", "images": [image]}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_bare_base64_of_a_picture_is_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, kind)
    text = base64.b64encode(buffer.getvalue()).decode()
    [prompt] = load_prompts(jsonl(tmp_path, {"prompt": "a", "answer": "b", "images": [text]})).records
    assert open_inside(prompt.images[0], tmp_path).read() == buffer.getvalue()


def test_a_path_that_begins_as_base64_does_is_a_path(tmp_path: Path) -> None:
    path = "R0lGOD" + "a" * 60 + ".png"
    [prompt] = load_prompts(jsonl(tmp_path, {"prompt": "a", "answer": "b", "images": [path]})).records
    assert prompt.images == (path,)


def test_bytes_and_file_that_are_two_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_vl_folder(tmp_path / "model")
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    red, blue = (picture_bytes(colour) for colour in ("red", "blue"))
    (tmp_path / "0.png").write_bytes(blue)
    folder = PictureFolder(str(tmp_path), model, Pangu({}, model))
    assert folder.outline(keep(blue, "0.png")).tokens > 0
    assert folder.outline(keep(red, "elsewhere.png")).tokens > 0
    assert PictureFolder(None, model, Pangu({}, model)).outline(keep(red, "0.png")).tokens > 0
    with pytest.raises(DataError, match=r"0\.png': the row's bytes .* are two pictures"):
        folder.outline(keep(red, "0.png"))


def picture_bytes(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()
