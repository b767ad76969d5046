"""What a scorer must reply, and nothing else: `{"reason": "...", "score": 1..5}`. Reply -> **verdict**."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewards.scorers.records import BadReply
from rewards.scorers.untrusted import one_line

Model = TypeVar("Model", bound=BaseModel)
REASON_CHARS = 300
"""Characters of a reason that a vote keeps."""


class Verdict(BaseModel):
    """The reply, parsed strictly: no number as text, no 4.5, no 6, nothing beside the two keys."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    score: Annotated[int, Field(ge=1, le=5)]


def reply_schema(max_reason_chars: int | None) -> dict[str, Any]:
    """The JSON schema to constrain a reply by. The reason comes first, so that the score can follow from it."""
    reason: dict[str, Any] = {"type": "string"}
    if max_reason_chars is not None:
        reason["maxLength"] = max_reason_chars
    return {
        "type": "object",
        "properties": {"reason": reason, "score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
        "required": ["reason", "score"],
        "additionalProperties": False,
    }


def parse_verdict(text: str) -> Verdict:
    """The verdict that `text` is.

    Raises:
        BadReply: empty, prose in whatever language, half of the JSON, a score out of range, or anything else.
    """
    return strict_json(Verdict, text)


def strict_json(model: type[Model], text: str) -> Model:
    """`text` as `model`.

    Raises:
        BadReply: it is something else.
    """
    if not text.strip():
        raise BadReply("an empty reply")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(key) for key in first["loc"]) or "reply"
        raise BadReply(f"{where}: {one_line(first['msg'], 80)}, in {one_line(text, 80)!r}") from None
