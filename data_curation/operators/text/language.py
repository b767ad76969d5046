"""Which language a text is written in (py3langid): other languages are put aside."""

from __future__ import annotations

from functools import cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import NonNegativeInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Drop, Part, Record, Verdict
from pangu_rl.config.curate import Share

CHARS = 2000
"""Of a text that are looked at."""


@row_operator(cost="cpu")
def language(
    record: Record,
    *,
    keep: list[str],
    least_confidence: Share = 0.5,
    least_chars: NonNegativeInt = 20,
    part: Part = "all",
) -> Verdict:
    """ISO 639-1 codes in `keep`. A text of fewer than `least_chars` letters, or one that the library is not sure of, is
    kept, and noted without a language."""
    letters = "".join(char if char.isalpha() else " " for char in record.text(part)[:CHARS])
    if len(letters.replace(" ", "")) < least_chars:
        return Annotate({"language": None})
    code, confidence = identifier().classify(letters)
    if confidence < least_confidence:
        return Annotate({"language": None, "confidence": round(float(confidence), 4)})
    if code not in keep:
        return Drop("language", f"{code} ({confidence:.2f})", {"confidence": float(confidence)})
    return Annotate({"language": code, "confidence": round(float(confidence), 4)})


@cache
def identifier() -> Any:
    """One of a process; loading it takes a second."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
