"""Multiple choice: shuffled options under letters, and the letter of the right one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from string import ascii_uppercase

from data_curation.schema import Answer


def lettered(rng: Random, question: str, right: str, wrong: Sequence[str]) -> tuple[str, Answer]:
    """The question with its options, each on a line, and the gold."""
    options = [right, *wrong]
    rng.shuffle(options)
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([question, *lines]), Answer(ascii_uppercase[options.index(right)], "choice", tuple(options))
