"""Markers of other systems are seen, whatever they look like; text that is none stays unmentioned."""

from __future__ import annotations

import pytest

from pangu_rl.data.fields.bad_row import is_blank
from pangu_rl.data.fields.markers import spelled


@pytest.mark.parametrize(
    "marker",
    [
        *("<img>", "<image_0>", "<image 1>", "<IMAGE>", "<|image_1|>", "<|image|>", "[IMG]", "[image]", "{image}"),
        *("<ImageHere>", "<image_placeholder>", "<video>", "<|vision_start|>", "</img>", "<image_soft_token>"),
    ],
)
def test_a_marker_that_is_text_is_seen(marker: str) -> None:
    assert spelled([f"see {marker} here"], pictures=True) == {marker}


def test_what_is_no_marker() -> None:
    assert not spelled(['<img src="a.png">', "imagine", "[1]", "{images}", "a < image > b", "<images>"], pictures=True)
    assert not spelled(["<image>"], pictures=True)
    assert spelled(["<image>"], pictures=False) == {"<image>"}
    assert spelled(["<image> <video>"], pictures=True, videos=True) == set()


@pytest.mark.parametrize("text", ["", " \n", "\u200b\u2060", "\u2800", "\u3164", "\u115f\u1160", "\ufeff", "\u00ad"])
def test_text_without_ink_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(text + "0")
