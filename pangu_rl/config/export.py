"""What `pangu-rl export` takes out of the stored rollouts, and as what. Each field is an option of the command."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PlainSerializer, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.records import FinishReason, Outcome

Target = Literal["raw", "sft", "pairs", "prompts", "iterative"]
Format = Literal["parquet", "jsonl", "sharegpt", "hf"]

_THRESHOLD = re.compile(r"\s*(?P<part>\S.*?)\s*(?P<sign>>=|<=|==|=|>|<)\s*(?P<value>[-+]?[0-9.]+(?:e[-+]?\d+)?)\s*")


class Threshold(Strict):
    """A bound on the value of one part of the reward, or on `reward` itself; a row without that value fails it."""

    part: str
    sign: Literal[">=", "<=", "=", ">", "<"]
    value: Annotated[float, Field(allow_inf_nan=False)]

    def __str__(self) -> str:
        return f"{self.part}{self.sign}{self.value:g}"


class Range(Strict):
    """Both ends belong to it; null is no bound."""

    low: float | None
    high: float | None

    @model_validator(mode="after")
    def ends_ascend(self) -> Range:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.low:g}:{self.high:g} is empty: write the lower end first")
        return self

    def __str__(self) -> str:
        return ":".join("" if end is None else f"{end:g}" for end in (self.low, self.high))


def _threshold(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _THRESHOLD.fullmatch(value)
    if not found:
        raise ValueError(f"{value!r}: write it as PART>=NUMBER, with one of > >= < <= =")
    return {**found.groupdict(), "sign": found["sign"].replace("==", "=")}


def _range(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    ends = value.split(":")
    try:
        low, high = (float(end) if end.strip() else None for end in (ends * 2 if len(ends) == 1 else ends))
    except ValueError:
        raise ValueError(f"{value!r}: write it as LOW:HIGH, LOW: or :HIGH") from None
    return {"low": low, "high": high}


As = PlainSerializer(lambda value: None if value is None else str(value), return_type=str | None)
ThresholdText = Annotated[Threshold, BeforeValidator(_threshold), As]
RangeText = Annotated[Range | None, BeforeValidator(_range), As]


class ExportFilters(Strict):
    """Which rows are taken; all of them must hold."""

    steps: RangeText = None
    """Steps, e.g. 10:200 or 10: (both ends belong). Pass rates and the rules of groups see these steps only."""
    outcome: tuple[Outcome, ...] = ()
    """Keep this outcome; may be given again. sft without --outcome and --score takes correct ones."""
    score: tuple[ThresholdText, ...] = ()
    """Bound on a reward part, or on reward, e.g. boxed_accuracy>=1; may be given again."""
    min_tokens: NonNegativeInt | None = None
    """Fewest tokens of a response."""
    max_tokens: NonNegativeInt | None = None
    """Most tokens of a response."""
    finish: tuple[FinishReason, ...] = ()
    """Keep this finish reason, stop or length; may be given again."""
    pass_rate: RangeText = None
    """Share of correct responses to the same prompt, e.g. 0.1:0.75 (both ends belong)."""
    where: str | None = None
    """SQL condition (DuckDB) over the store's columns, e.g. "source = 'geometry' and len(images) = 1"."""
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Drop a response to the same prompt (prompts: a prompt) that is at least so like an earlier one, e.g. 0.9."""

    @model_validator(mode="after")
    def lengths_ascend(self) -> ExportFilters:
        if self.min_tokens is not None and self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} exceeds max_tokens {self.max_tokens}: nothing is both")
        return self


class ExportConfig(ExportFilters):
    to: Target = "raw"
    """What the rows are for."""
    format: Format = "parquet"
    """hf is a folder for the Hugging Face datasets library, with a data card."""

    @property
    def filters(self) -> dict[str, Any]:
        """Those that are set, as a manifest has them."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"to", "format"})
