"""Which language a text is written in (py3langid): other languages are put aside."""

from __future__ import annotations

import re
import unicodedata

from pydantic import NonNegativeInt

from data_curation.operators.text._languages import languages
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Drop, Part, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.records import GROUNDING_TAGS

CHARS = 2000
"""Of a text that are looked at."""
_TAGS = re.compile("|".join(map(re.escape, GROUNDING_TAGS)))
"""Their English words would outvote a short question in Chinese."""


_VARIANTS = "".join(map(chr, range(0xFE00, 0xFE10)))
"""Marks that choose how an emoji is drawn."""


class _Letters(dict[int, str]):
    """For `str.translate`: letters and the marks on them stay, and what is neither becomes a space."""

    def __missing__(self, code: int) -> str:
        one = chr(code)
        mark = unicodedata.category(one) in ("Mn", "Mc") and one not in _VARIANTS
        self[code] = one if one.isalpha() or mark else " "
        return self[code]


_LETTERS = _Letters()


@row_operator(cost="cpu", batch=32)
def language(
    records: list[Record],
    *,
    keep: list[str],
    least_confidence: Share = 0.5,
    least_chars: NonNegativeInt = 20,
    part: Part = "all",
) -> list[Verdict]:
    """ISO 639-1 codes in `keep`. A text of fewer than `least_chars` letters, or one that the library is not sure of, is
    kept, and noted without a language."""
    letters = [_TAGS.sub(" ", record.text(part)[:CHARS]).translate(_LETTERS) for record in records]
    judged = [text for text in letters if len(text) - text.count(" ") >= least_chars]
    found = dict(zip(judged, languages().classify(judged), strict=True)) if judged else {}
    return [_verdict(*found.get(text, (None, 0.0)), keep, least_confidence) for text in letters]


def _verdict(code: str | None, confidence: float, keep: list[str], least_confidence: float) -> Verdict:
    if code is None:
        return Annotate({"language": None})
    if confidence < least_confidence:
        return Annotate({"language": None, "confidence": round(confidence, 4)})
    if code not in keep:
        return Drop("language", f"{code} ({confidence:.2f})", {"confidence": confidence})
    return Annotate({"language": code, "confidence": round(confidence, 4)})
