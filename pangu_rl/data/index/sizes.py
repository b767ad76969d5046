"""How large rows are, before any tokenizer: of one row, or of a table's rows at once, with the same result.

`text` counts tokens where rows name `text_tokens`, else the UTF-8 bytes of all that is said in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SIZES = {"text": np.dtype("uint32"), "pictures": np.dtype("uint32"), "frames": np.dtype("uint32")} | {
    "duration": np.dtype("float32")
}
"""Column -> type; a duration is in seconds."""
TEXTS = ("document", "messages", "prompt", "response", "chosen", "rejected", "answer")
COLUMNS = ("text_tokens", *TEXTS, "images", "width", "frames", "duration")
"""That sizes are read from."""


def sizes_of_row(row: Mapping[str, Any]) -> tuple[int, int, int, float]:
    """(text, pictures, frames, seconds)."""
    tokens, images = row.get("text_tokens"), row.get("images")
    text = _amount(tokens) if tokens is not None else sum(_text_bytes(row.get(key)) for key in TEXTS)
    pictures = _shown(row.get("width")) if images is None else len(images) if isinstance(images, list | tuple) else 0
    return int(text), pictures, int(_amount(row.get("frames"))), float(_amount(row.get("duration")))


def sizes_of_table(table: pa.Table) -> dict[str, np.ndarray]:
    """Column of `SIZES` -> [N], of a table with those of `COLUMNS` that there are."""
    columns = {name: table[name].combine_chunks() for name in COLUMNS if name in table.column_names}
    none = np.zeros(len(table))
    text = sum((_bytes_in(columns[name]) for name in TEXTS if name in columns), start=none)
    if "text_tokens" in columns:
        text = np.where(columns["text_tokens"].is_null(), text, _sums(columns["text_tokens"]))
    pictures = _sums(columns["width"], shown=True) if "width" in columns else none
    if "images" in columns and pa.types.is_list(columns["images"].type):
        pictures = np.where(columns["images"].is_null(), pictures, _lengths(columns["images"]))
    found = {"text": text, "pictures": pictures} | {
        name: _sums(columns[name]) if name in columns else none for name in ("frames", "duration")
    }
    return {name: found[name].astype(kind) for name, kind in SIZES.items()}


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(map(_text_bytes, value.values()))
    return sum(map(_text_bytes, value)) if isinstance(value, list | tuple) else 0


def _amount(value: Any) -> float:
    """A number, or the sum of a list of them; what is neither is left to whoever reads the row."""
    if isinstance(value, list | tuple):
        return sum(map(_amount, value))
    return max(value, 0) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _shown(width: Any) -> int:
    return sum(map(_shown, width)) if isinstance(width, list | tuple) else int(_amount(width) > 0)


def _bytes_in(array: pa.Array) -> np.ndarray:
    """UTF-8 bytes of all strings within each value, float64 [N]."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.float64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _per_row(array, _bytes_in(array.flatten()))
    if pa.types.is_struct(kind):
        fields = array.flatten()  # with the struct's own nulls
        return sum(map(_bytes_in, fields), start=np.zeros(len(array)))
    return np.zeros(len(array))


def _sums(array: pa.Array, *, shown: bool = False) -> np.ndarray:
    """Of numbers or lists of numbers: their sums, or how many are above 0; float64 [N]."""
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _per_row(array, _sums(array.flatten(), shown=shown))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return np.zeros(len(array))
    values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False).astype(np.float64)
    return (values > 0).astype(np.float64) if shown else np.maximum(values, 0)


def _lengths(array: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)


def _per_row(array: pa.Array, items: np.ndarray) -> np.ndarray:
    """Sums over each list of `items`, the values of all its items."""
    totals = np.concatenate([[0.0], np.cumsum(items)])
    ends = np.cumsum(_lengths(array))
    return totals[ends] - totals[np.concatenate([[0], ends[:-1]])] if len(ends) else np.zeros(0)
