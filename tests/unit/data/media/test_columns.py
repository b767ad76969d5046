"""Which videos a row names and where they stand; what is said of a row that does not add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.documents import Place, parse_document
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.media.columns import media_of
from pangu_rl.data.pairs import parse_pair
from pangu_rl.data.prompts import parse_prompt
from pangu_rl.data.queries import parse_query, query_row
from pretrain.processing.embedded import kept_file

IMAGE, VIDEO = {"type": "image"}, {"type": "video"}


def text(said: str) -> dict:
    return {"type": "text", "text": said}


def user(content: str | list) -> dict:
    return {"role": "user", "content": content}


def asked(row: dict) -> list:
    messages, _, _ = media_of(row, [user(row["prompt"])])
    return messages[0]["content"]


def test_places_by_marker_or_before_the_first_question() -> None:
    files = {"images": ["a.png"], "videos": ["v.mp4"]}
    marked = asked({"prompt": "first <video> then <image>?", **files})
    assert marked == [text("first "), VIDEO, text(" then "), IMAGE, text("?")]
    assert asked({"prompt": "which?", **files}) == [IMAGE, VIDEO, text("which?")]
    assert asked({"prompt": "<image>\nwhich?", "videos": ["v.mp4"]}) == [VIDEO, text("\nwhich?")], "LLaVA-Video's way"
    assert asked({"prompt": "a <video> tag", "images": ["a.png"]}) == "a <video> tag", "without videos it is text"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "<video> <video>?", "videos": ["v.mp4"]}, "0 <image> and 2 <video>: write one where each stands"),
        ({"prompt": "<image>?", "videos": ["v.mp4", "w.mp4"]}, "1 <image> and 0 <video>: write one where each stands"),
        ({"prompt": "?", "videos": "v.mp4"}, "key videos is no list of paths"),
        ({"prompt": "?", "videos": [3]}, r"videos\[0\] is int '3'"),
        ({"prompt": "?", "videos": [["0.png", "1.png"]]}, r"videos\[0\] is a list of frames: put them into a folder"),
        ({"prompt": [user([text("?"), VIDEO])]}, "names 0 videos and messages have 1 video parts"),
        ({"prompt": [user([text("?")])], "videos": ["v.mp4"]}, "names 1 videos and messages have 0 video parts"),
        ({"prompt": "?", "time_precise": "yes", "videos": ["v.mp4"]}, "time_precise is str 'yes', not true or false"),
        ({"prompt": "?", "time_precise": True}, "time_precise is true and the row has no videos"),
    ],
)
def test_what_does_not_add_up_is_said(row: dict, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        parse_prompt(row | {"answer": "1"}, "u")


def test_every_kind_of_row_holds_videos() -> None:
    shown = {"videos": ["v.mp4"], "time_precise": True}
    rows = [
        parse_conversation({"prompt": "when?", "response": "at 3 s", **shown}, "u"),
        parse_prompt({"prompt": "when?", "answer": "3", **shown}, "u"),
        parse_pair({"prompt": "when?", "chosen": "3", "rejected": "4", **shown}, "u"),
        parse_query({"prompt": "when?", "response": "3", **shown}, "u", lambda reply: None),
    ]
    for row in rows:
        assert (row.videos, row.time_precise) == (("v.mp4",), True)
        assert row.messages[0]["content"] == [VIDEO, text("when?")]
    query = rows[-1]
    assert parse_prompt(query_row(query), "u") == query


def test_an_entry_may_name_its_kind() -> None:
    """As verl's may, of both kinds."""
    row = {"prompt": "?", "answer": "1", "images": [{"image": "a.png"}], "videos": [{"video": "v.mp4"}]}
    prompt = parse_prompt(row, "u")
    assert (prompt.images, prompt.videos) == (("a.png",), ("v.mp4",))
    with pytest.raises(BadRow, match=r"images\[0\] is an object of video"):
        parse_prompt({**row, "images": row["videos"]}, "u")


def test_a_document_holds_videos() -> None:
    row = {"document": ["one", VIDEO, "two", IMAGE], "videos": ["v.mp4"], "images": ["a.png"]}
    found = parse_document(row, "u")
    assert found.parts == ("one", Place.VIDEO, "two", Place.IMAGE) and found.videos == ("v.mp4",)


def test_a_video_within_a_row_is_kept_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretrain.processing.embedded.cache_root", lambda: tmp_path)
    row = {"prompt": "?", "answer": "1", "videos": [{"bytes": b"frames", "path": "v.mp4"}]}
    [path] = parse_prompt(row, "u").videos
    assert path.endswith("/v.mp4") and kept_file(path).read_bytes() == b"frames"
