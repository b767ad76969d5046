"""Markers of other systems are seen, whatever they look like; text that is none stays unmentioned."""

from __future__ import annotations

from typing import Any

import pytest

from pangu_rl.data.fields.bad_row import is_blank
from pangu_rl.data.fields.markers import spelled


@pytest.mark.parametrize(
    "marker",
    [
        *("<img>", "<image_0>", "<image 1>", "<IMAGE>", "<|image_1|>", "<|image|>", "[IMG]", "[image]", "{image}"),
        *("<start_of_image>", "<image-placeholder>", "<ref-object>", "<bbox>", "<point>"),
        *("<ImageHere>", "<image_placeholder>", "<video>", "<|vision_start|>", "</img>", "<image_soft_token>"),
    ],
)
def test_a_marker_that_is_text_is_seen(marker: str) -> None:
    assert spelled({"prompt": f"see {marker} here", "images": ["a.png"]}) == {marker}


@pytest.mark.parametrize(
    "text", ['<img src="a.png">', "imagine", "[1]", "{images}", "a < image > b", "<images>", "![1]"]
)
def test_what_is_no_marker(text: str) -> None:
    assert not spelled({"prompt": text})


def user(content: Any) -> dict:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict:
    return {"role": "assistant", "content": content}


@pytest.mark.parametrize(
    ("row", "markers"),
    [
        ({"prompt": "<image>", "images": ["a.png"]}, set()),
        ({"prompt": "<image>"}, {"<image>"}),
        ({"prompt": "<image>", "videos": ["v.mp4"]}, set()),
        ({"prompt": "<video>", "images": ["a.png"]}, {"<video>"}),
        ({"prompt": "<image> <video>", "images": ["a.png"], "videos": ["v.mp4"]}, set()),
        ({"prompt": "<image>", "response": "an <image>", "images": ["a.png"]}, {"<image>"}),
        ({"messages": [user("<image>"), assistant("an <image>")], "images": ["a.png"]}, {"<image>"}),
        ({"prompt": "?", "chosen": [assistant("<bbox>")], "rejected": "<point>"}, {"<bbox>", "<point>"}),
        ({"prompt": [user([{"type": "image"}, {"type": "text", "text": "<image>"}])], "images": ["a"]}, {"<image>"}),
        ({"prompt": "![](a.png) and ![the sea](b c.png)"}, {"![](...)"}),
    ],
)
def test_markers_are_judged_turn_by_turn(row: dict, markers: set) -> None:
    assert spelled(row) == markers


@pytest.mark.parametrize("text", ["", " \n", "\u200b\u2060", "\u2800", "\u3164", "\u115f\u1160", "\ufeff", "\u00ad"])
def test_text_without_ink_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(text + "0")
