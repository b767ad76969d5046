"""What an endpoint says -> **the same without its key**, however the key is spelled in it.

A key hides in characters that are taken out later, in escapes that are read later, in another case or an encoding. So
not the text is searched but what is left of it when all that is undone; a text that still holds the key goes whole,
for there is no telling which of its characters are the key's.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from urllib.parse import unquote

MASK = "***"
SHORTEST = 12
"""Letters and digits of a key that is looked for in other spellings; a shorter one stands in innocent words."""
ROUNDS = 4
"""Of escapes within escapes."""
_ESCAPE = re.compile(r"\\+(?:u\{?([0-9a-fA-F]{1,6})\}?|x([0-9a-fA-F]{2}))")


class Redaction:
    """Of one key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._spellings = _spellings(key) if len(_letters(key)) >= SHORTEST else frozenset()

    def __call__(self, text: str) -> str:
        """`text` with `MASK` for the key, or `MASK` alone where it holds the key in another spelling."""
        if not self._key:
            return text
        text = text.replace(self._key, MASK)
        return MASK if any(self._is_in(reading) for reading in _readings(text)) else text

    def _is_in(self, reading: str) -> bool:
        letters = _letters(reading)
        return any(spelling in letters for spelling in self._spellings)


def _spellings(key: str) -> frozenset[str]:
    """The key as it is, backwards, in hex, and in base64 wherever in a longer text it begins."""
    content = key.encode()
    # Of each of the three phases, the characters that no neighbour of the key has a part in.
    phases = (base64.b64encode(b"\0" * before + content)[skip:] for before, skip in ((0, 0), (1, 2), (2, 3)))
    inner = (encoded.rstrip(b"=")[:-1].decode() for encoded in phases)
    return frozenset(map(_letters, (key, key[::-1], content.hex(), *inner)))


def _readings(text: str) -> list[str]:
    """The text, and what it becomes when its escapes are read, and those that appear then."""
    found = [text]
    for _ in range(ROUNDS):
        read = _ESCAPE.sub(_character, html.unescape(unquote(found[-1], errors="ignore")))
        if read == found[-1]:
            break
        found.append(read)
    return found


def _character(escape: re.Match[str]) -> str:
    number = int(escape[1] or escape[2], 16)
    return chr(number) if number < 0x110000 else ""


def _letters(text: str) -> str:
    """Letters and digits alone, in one case and one form."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
