"""The pairs of DPO and the conversations beside them, read and checked before anything is started or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import DpoConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.drawn_rows import ReadRows, StageRows, read_when_drawn
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.formats.mixture import first_copy
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.pairs import Pair, asked_by, load_pairs, without_queries_of
from pangu_rl.errors import DataError
from pangu_rl.loops.inputs.conversations import indexed_conversations, read_conversations
from pangu_rl.loops.inputs.model import check_length, open_model
from pangu_rl.loops.inputs.problems import share_of, with_sound_pictures
from pangu_rl.loops.mixture import mixture, shared
from pangu_rl.loops.pictures import RowLoader


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoInputs:
    """The pairs of a run, and the SFT rows that are mixed in."""

    loader: RowLoader
    train: list[Pair]
    fingerprint: str
    """Of the pairs' token ids, pictures and moments of videos, in order: what reference log-probs are a function of,
    but for the model."""
    sft: StageRows[Conversation] | None
    """Those that ask what no pair asks; None without `data.sft`."""
    skipped: list[str]
    """Lines of pairs and SFT rows."""
    left_out: int
    """All of them, of which `skipped` has the first."""
    asked_by_pairs: int
    """SFT rows left out since a pair asks the same; of rows that are read when they are drawn it is not known yet."""


def read_dpo_inputs(config: DpoConfig) -> DpoInputs:
    """Read the pairs and the SFT rows beside them.

    Raises:
        UserError: a file, a row, a picture or a model folder that cannot be used, or no SFT row that no pair asks.
    """
    data, limit = config.data, config.data.max_tokens
    check_length(resolve_path(config.model.path), limit, "data.max_tokens")
    encoder, folder = open_model(config.model, data, config.trainer.seed)
    encoded: dict[str, bytes] = {}
    sizes: dict[str, int] = {}

    def problem(pair: Pair) -> str | None:
        pictures = folder.outlines(pair)
        row = encoder.pair(pair, pictures)
        ids = np.concatenate([row.prompt.token_ids, [-1], row.chosen, [-1], row.rejected])
        moments = repr(folder.views(pair)).encode() if pair.videos else b""
        encoded[pair.uid] = xxhash.xxh3_128_digest(ids.tobytes() + moments)
        sizes[pair.uid] = len(row.prompt.token_ids) + len(row.chosen) + len(row.rejected)
        if row.num_tokens > limit:
            return (
                f"the prompt and its longer response have {row.num_tokens} tokens{share_of(pictures)}, "
                f"data.max_tokens is {limit}"
            )
        if row.chosen == row.rejected:
            return "chosen and rejected are the same tokens under the model's chat template: there is nothing to prefer"
        return None

    def load(path: str) -> Loaded[Pair]:
        return load_pairs(resolve_path(path), on_bad_row=data.on_bad_row, check=problem, reading=Reading.of(data))

    loaded: list[Loaded[Any]] = [mixture(data, load)]
    drawn = data.sft is not None and read_when_drawn(resolve_path(data.sft), Reading.of(data))
    if data.sft is not None and not drawn:
        loaded.append(read_conversations(data.sft, data, encoder, folder))
    (pairs, *rest), loader = with_sound_pictures(loaded, encoder, folder)
    pairs = shared(pairs, data, sizes, loader)
    digest = xxhash.xxh3_128()
    for pair in pairs.records:
        digest.update(encoded[first_copy(pair.uid, encoded)])
        digest.update("".join(loader.digests[path] for path in (*pair.images, *pair.videos)).encode())
    sft, asked = None, 0
    if drawn:
        sft = indexed_conversations(data.sft, data, encoder, folder, _asked_by_pairs(pairs.records))
        loader.notes += tuple(sft.notes())
    elif rest:
        sft, asked = _remaining(rest[0], pairs.records, loader)
    parts = [pairs, *([sft] if sft else [])]
    return DpoInputs(
        loader=loader,
        train=pairs.records,
        fingerprint=digest.hexdigest(),
        sft=sft,
        skipped=[line for part in parts for line in part.skipped],
        left_out=len(pairs.skipped) + (sft.left_out if sft else 0),
        asked_by_pairs=asked,
    )


def _remaining(
    loaded: Loaded[Conversation], pairs: Sequence[Pair], loader: RowLoader
) -> tuple[ReadRows[Conversation], int]:
    """SFT rows that ask what none of `pairs` asks, and how many others there are."""
    remaining = without_queries_of(pairs, loaded.records)
    count = len(loaded.records)
    if not remaining:
        raise DataError(f"data.sft {loaded.path}: pairs ask all that its {count} rows ask, none remains to mix in")
    rows = ReadRows(records=remaining, skipped=loaded.skipped, digests=loader.digests)
    return rows, count - len(remaining)


def _asked_by_pairs(pairs: Sequence[Pair]) -> Callable[[Conversation], str | None]:
    asks = asked_by(pairs)
    return lambda row: "asked_by_pairs" if asks(row) else None
