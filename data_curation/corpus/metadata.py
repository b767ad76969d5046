"""What `pangu-rl pack` plans from: tokens of text and sizes of pictures of the SFT rows, without the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_curation.schema import Row
from data_curation.sources import tiny_pangu_vl
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.chat_template import ChatTemplate

MODEL = "cache://models/tiny-pangu-vl"
MARKS = 3
"""Tokens that a picture has in the rendered conversation: start, placeholder, end. Packing counts them by itself."""


def write_metadata(path: Path, rows: Sequence[Row], sizes: Mapping[str, tuple[int, int]]) -> list[int]:
    """Write columns id, text_tokens, width, height, source; returns the tokens of text, in the rows' order."""
    template = ChatTemplate(tiny_pangu_vl.prepare(resolve_path(MODEL)))
    tokens = [len(template.encode_conversation(row["messages"])[0]) - MARKS * len(row["images"]) for row in rows]
    shown = [[sizes[image] for image in row["images"]] for row in rows]
    table = pa.table(
        {
            "id": [row["id"] for row in rows],
            "text_tokens": pa.array(tokens, pa.int64()),
            "width": pa.array([[width for width, _ in some] for some in shown], pa.list_(pa.int64())),
            "height": pa.array([[height for _, height in some] for some in shown], pa.list_(pa.int64())),
            "source": [row["source"] for row in rows],
        }
    )
    pq.write_table(table, path)
    return tokens
