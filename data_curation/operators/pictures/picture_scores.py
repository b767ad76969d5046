"""The hook for models that look at pictures: aesthetics, watermarks, NSFW, likeness of picture and text, or yours."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Drop, Record, Verdict
from data_curation.pipeline.registry import named_function
from pangu_rl.errors import ConfigError

BATCH = 32


@row_operator(cost="model", batch=BATCH)
def picture_scores(
    records: list[Record], *, model: str, least: float | None = None, most: float | None = None, reason: str = "score"
) -> list[Verdict]:
    """`model` is `path/to/file.py:function`: a function without arguments, which loads the model and returns another
    one, from pictures (RGB) and texts, one for each, to scores. The lowest and the highest score of a row's pictures
    are held against `least` and `most`; rows without pictures pass."""
    shown = [
        (index, record.picture(path), record.text()) for index, record in enumerate(records) for path in record.images
    ]
    if not shown:
        return [None] * len(records)
    scores = [float(score) for score in _loaded(model)([one for _, one, _ in shown], [text for _, _, text in shown])]
    if len(scores) != len(shown):
        raise ConfigError(f"operator picture_scores: {model} gave {len(scores)} scores for {len(shown)} pictures")
    own = [
        [score for score, (index, _, _) in zip(scores, shown, strict=True) if index == at] for at in range(len(records))
    ]
    return [_verdict(some, least, most, reason) for some in own]


def _verdict(scores: list[float], least: float | None, most: float | None, reason: str) -> Verdict:
    if not scores:
        return None
    if least is not None and min(scores) < least:
        return Drop(reason, f"{min(scores):.3g}, the least is {least:g}", {"score": min(scores)})
    if most is not None and max(scores) > most:
        return Drop(reason, f"{max(scores):.3g}, the most is {most:g}", {"score": max(scores)})
    return Annotate({"score": sum(scores) / len(scores)})


@cache
def _loaded(model: str) -> Callable[..., list[float]]:
    return named_function(model)()
