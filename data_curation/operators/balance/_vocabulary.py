"""A file of words and characters -> **which of them a text has**."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from data_curation.operators._unspaced import Unspaced
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError

_UNSPACED = re.compile(f"[{Unspaced.CJK}{Unspaced.OTHERS}]")
_LETTERS = re.compile(r"[^\W\d_]+")
_PIECE = re.compile(r"\w(?:\S*\w)?")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    characters: frozenset[str]
    """Entries of one character, as they are written: `A` is not `a`, since they look different."""
    words: frozenset[str]
    """Longer ones, case folded, which stand in a text as words of their own."""
    runs: frozenset[str]
    """Other longer ones, which stand anywhere in it: of scripts without spaces, or with a sign at an end, as `C++`."""
    lengths: tuple[int, ...]
    """Of `runs`."""

    def of(self, text: str) -> set[str]:
        """Its entries in `text`. `e-mail,` has the words `e-mail`, `e` and `mail`."""
        folded = text.casefold()
        found = self.characters.intersection(text)
        found |= self.words.intersection([*_LETTERS.findall(folded), *_PIECE.findall(folded)])
        for length in self.lengths:
            found |= self.runs.intersection(folded[start : start + length] for start in range(len(folded)))
        return found


@cache
def vocabulary(path: str) -> Vocabulary:
    """Of a file in UTF-8, split by spaces and lines.

    Raises:
        ConfigError: no such file; it is empty, or no text: no row can be read without it.
    """
    file = resolve_path(path)
    try:
        listed = set(file.read_text(encoding="utf-8").split())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: name a file of words and characters, split by spaces") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is no UTF-8: save it as UTF-8") from None
    if not listed:
        raise ConfigError(f"{file}: is empty: it needs words or characters, split by spaces")
    longer = {entry.casefold() for entry in listed if len(entry) > 1}
    runs = frozenset(entry for entry in longer if _UNSPACED.search(entry) or not _PIECE.fullmatch(entry))
    characters = frozenset(entry for entry in listed if len(entry) == 1)
    return Vocabulary(characters, frozenset(longer - runs), runs, tuple(sorted(set(map(len, runs)))))
