"""Is an answer a sum that nobody has added up? `8 + 3` says nothing of 11 that the question did not say.

Fractions (`3 \\div 4` is one), roots, powers, multiples of pi and powers of ten are numbers and stay answers, and so
does all that has a letter or a function in it.
"""

from __future__ import annotations

import re

_OPERATION = re.compile(
    r"[\d})%]\s*(?:\\,)?\s*"
    r"(?:[+*×·−–]|-|\\times(?![A-Za-z])|\\cdot(?![A-Za-z]))"
    r"\s*(?:\\left)?[({]?\s*[-+]?\s*(?:\d|\\[dt]?frac(?![A-Za-z]))"
)
_POWER_OF_TEN = re.compile(r"(?:\\times|\\cdot|[×·*])\s*(?:10|\{ ?10 ?\})\s*(?:\^|\*\*)")
_PLAIN_COMMAND = re.compile(r"\\(?:times|cdot|div|[dt]?frac|left|right|sqrt)(?![A-Za-z])|\\[,;:! %]")
_LETTER = re.compile(r"[A-Za-z]")
_LAST_SIDE = re.compile(r"[=≈]|\\approx(?![A-Za-z])")


def is_unevaluated(answer: str) -> bool:
    """Whether two plain numbers of `answer` are joined by +, - or times; of `8 + 3 = 11` the last side
    counts."""
    side = _LAST_SIDE.split(answer)[-1]
    if _LETTER.search(_PLAIN_COMMAND.sub("", side)):
        return False
    return bool(_OPERATION.search(_POWER_OF_TEN.sub("", side)))
