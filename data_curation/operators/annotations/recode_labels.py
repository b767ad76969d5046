"""Labels in thousandths become labels in pixels, or without their three digits (openPangu-VL, table 5)."""

from __future__ import annotations

import re
from typing import Any

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Edit, Record, Verdict
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.grounding_labels import LARGEST

_SHAPE = re.compile(r"<\|(?P<kind>point|box|quad)_start\|>[(),\d]+<\|(?P=kind)_end\|>")
_CORNER = re.compile(r"\((\d{1,3}),(\d{1,3})\)")
KEYS = ("messages", "prompt", "answer", "response")


@row_operator(cost="cpu")
def recode_labels(record: Record, *, normalised: bool = True, padded: bool = True) -> Verdict:
    """Of a row with one picture: places in thousandths of its sides are written in its pixels unless `normalised`, with
    three digits if `padded`. Pixels beyond 999 have no place in a label; such a row is an error."""
    row = record.row
    if not any(_SHAPE.search(text) for key in KEYS for text in _texts(row.get(key))):
        return None
    if len(record.images) != 1:
        raise BadRow(f"has labels of {len(record.images)} pictures: they are rewritten in the pixels of one")
    size = record.picture(record.images[0]).size
    return Edit(recoded_row(row, size, normalised, padded), "labels were written otherwise")


def recoded_row(row: Row, size: tuple[int, int], normalised: bool, padded: bool) -> Row:
    """The row with all labels of its texts rewritten, and `coordinates` saying in what; `size` is that of its picture,
    width and height. Raises `BadRow`."""
    texts = {key: _mapped(row[key], size, normalised, padded) for key in KEYS if key in row}
    return row | texts | {"coordinates": "0-999" if normalised else "pixel"}


def recoded(text: str, size: tuple[int, int], normalised: bool, padded: bool) -> str:
    """A text with its labels rewritten; a place is the middle of its thousandth."""

    def corner(found: re.Match[str]) -> str:
        places = (int(found[1]), int(found[2]))
        if not normalised:
            places = tuple(
                round((place + 0.5) * side / (LARGEST + 1)) for place, side in zip(places, size, strict=True)
            )
        if max(places) > LARGEST:
            raise BadRow(f"has a place at {places} pixels, beyond the {LARGEST} of a label: show the picture smaller")
        return "({:03d},{:03d})".format(*places) if padded else "({},{})".format(*places)

    return _SHAPE.sub(lambda shape: _CORNER.sub(corner, shape[0]), text)


def _mapped(value: Any, size: tuple[int, int], normalised: bool, padded: bool) -> Any:
    if isinstance(value, str):
        return recoded(value, size, normalised, padded)
    if isinstance(value, list):
        return [_mapped(one, size, normalised, padded) for one in value]
    if isinstance(value, dict):
        return {key: _mapped(one, size, normalised, padded) for key, one in value.items()}
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _texts(one)]
