"""The hook for an encoder of pictures: its embedding is noted, for `cluster_sampling`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Record, Verdict
from data_curation.pipeline.registry import named_function
from pangu_rl.errors import ConfigError


@row_operator(cost="model", batch=32)
def picture_embeddings(records: list[Record], *, model: str) -> list[Verdict]:
    """`model` is `path/to/file.py:function`: a function without arguments, which loads the encoder and returns another
    one, from pictures (RGB) to vectors of one length. The first picture of a row counts; others pass."""
    shown = [(at, record.picture(record.images[0])) for at, record in enumerate(records) if record.images]
    vectors = list(_loaded(model)([picture for _, picture in shown])) if shown else []
    if len(vectors) != len(shown):
        raise ConfigError(f"operator picture_embeddings: {model} gave {len(vectors)} vectors for {len(shown)} pictures")
    found: list[Verdict] = [None] * len(records)
    for (at, _), vector in zip(shown, vectors, strict=True):
        found[at] = Annotate({"embedding": [round(float(value), 5) for value in vector]})
    return found


@cache
def _loaded(model: str) -> Callable[..., list]:
    return named_function(model)()
