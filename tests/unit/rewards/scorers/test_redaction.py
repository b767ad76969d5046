"""A key that an endpoint repeats stays out of everything that is kept, in whatever spelling it comes."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from rewards.scorers.redaction import MASK, Redaction

KEY = "sk-canary-4f81Zq0Xv7"
FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})


def escaped(text: str, form: str) -> str:
    return "".join(form.format(ord(character)) for character in text)


SPELLINGS = {
    "zero width": "\u200b".join(KEY),
    "one zero width": KEY[:7] + "\u200d" + KEY[7:],
    "a control character": KEY[:7] + "\x07" + KEY[7:],
    "soft hyphens": "\u00ad".join(KEY),
    "spaces": " ".join(KEY),
    "line breaks": "\n".join(KEY),
    "no punctuation": KEY.replace("-", ""),
    "upper case": KEY.upper(),
    "full width": KEY.translate(FULL_WIDTH),
    "backwards": KEY[::-1],
    "escapes of JSON": escaped(KEY, "\\u{:04x}"),
    "escapes of escapes": json.dumps(json.dumps(escaped(KEY, "\\u{:04x}"))),
    "escapes of bytes": escaped(KEY, "\\x{:02x}"),
    "percent": escaped(KEY, "%{:02X}"),
    "percent of percent": quote(escaped(KEY, "%{:02X}")),
    "HTML": escaped(KEY, "&#{};"),
    "HTML, hexadecimal": escaped(KEY, "&#x{:x};"),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal with colons": KEY.encode().hex(":"),
    **{f"base64 behind {n}": base64.b64encode(b"ab?"[:n] + KEY.encode() + b" is it").decode() for n in range(4)},
    "base64 of an address": base64.urlsafe_b64encode(b"~~" + KEY.encode()).decode(),
    "base64 alone": base64.b64encode(KEY.encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_text_with_the_key_in_another_spelling_goes_whole(spelling: str) -> None:
    assert Redaction(KEY)(f"Your key {spelling} is wrong") == MASK


def test_the_key_as_it_is_is_replaced_and_the_rest_stays() -> None:
    assert Redaction(KEY)(f"Incorrect key: {KEY}.") == "Incorrect key: ***."
    assert Redaction(KEY)(f"{KEY} and {KEY.upper()}") == MASK


@pytest.mark.parametrize("text", ["", "The answer 42 is right: 100 % \\u0041 &amp; %41.", KEY[:11], "sk-canary"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert Redaction(KEY)(text) == text


def test_a_key_that_is_a_word_is_looked_for_as_it_is_alone() -> None:
    assert Redaction("none")("None of it; none") == "None of it; ***"
    assert Redaction("")("any") == "any"
