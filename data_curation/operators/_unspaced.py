"""Characters of scripts that put no spaces between words, each for a class of a regular expression."""

from __future__ import annotations

from enum import StrEnum


class Unspaced(StrEnum):
    CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    """Kana and Han: a character says about as much as a word."""
    OTHERS = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
    """Thai, Lao, Tibetan, Burmese and Khmer: words have several characters, and where they end is not written."""
