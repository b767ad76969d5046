"""The hook for models that read pictures: engines of OCR, of the structure of tables, detectors, or yours."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Record, Verdict
from data_curation.pipeline.registry import named_function
from pangu_rl.errors import ConfigError


@row_operator(cost="model", batch=16)
def read_pictures(records: list[Record], *, model: str) -> list[Verdict]:
    """`model` is `path/to/file.py:function`: a function without arguments, which loads the model and returns another
    one, from pictures (RGB) to a list for each: of lines of text with `text` and `box` (`ocr_agreement`), of cells with
    `box`, `row` and `column` (`table_html`), or whatever is read later. They are noted as `found`, and have to be plain
    JSON. The first picture of a row counts; rows without one pass."""
    shown = [(at, record.picture(record.images[0])) for at, record in enumerate(records) if record.images]
    found = list(_loaded(model)([picture for _, picture in shown])) if shown else []
    if len(found) != len(shown):
        raise ConfigError(f"operator read_pictures: {model} gave {len(found)} lists for {len(shown)} pictures")
    verdicts: list[Verdict] = [None] * len(records)
    for (at, _), listed in zip(shown, found, strict=True):
        verdicts[at] = Annotate({"found": list(listed)})
    return verdicts


@cache
def _loaded(model: str) -> Callable[..., list]:
    return named_function(model)()
