"""One completion -> **its tokens as text, with log-probs and weight versions**, to colour them by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.pages.shown_text import shown
from pangu_rl.view.group import rows_of
from pangu_rl.view.opened import Run
from rollout.footers import identity

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST = 20_000
"""Tokens that a page can hold."""
VOCABULARY = "tokenizer.json"


def read_tokens(run: Run, step: int, uid: str) -> dict[str, Any]:
    """`pieces`, `logprobs` of the sampler and `versions` of the weights (None where one drew all), as many of each; and
    a `note` where the pieces are no text, or not all.

    Raises:
        DataError: no such completion, or a store that cannot be read.
    """
    columns = ["token_ids", "logprobs", "weight_versions", "weight_version"]
    rows = rows_of(run.folder, step, ds.field("completion_uid") == uid, columns)
    if not rows:
        raise DataError(f"{run.name}: step {step} has no completion {uid[:80]!r}")
    row = rows[0]
    ids = row["token_ids"][:MOST]
    path = vocabulary(run)
    notes = [] if path else [f"numbers, since {VOCABULARY} of the model is not there"]
    if len(ids) < len(row["token_ids"]):
        notes.append(f"the first {MOST:,} of {len(row['token_ids']):,} tokens")
    return {
        "pieces": pieces(path, ids) if path else [f"{token} " for token in ids],
        "logprobs": row["logprobs"][:MOST],
        "versions": row["weight_versions"] and row["weight_versions"][:MOST],
        "note": "; ".join(notes),
    }


def vocabulary(run: Run) -> Path | None:
    """Of the model that the run starts from, else of its own newest checkpoint."""
    places = [folder / "hf" for folder in sorted(run.folder.glob("checkpoints/step_*"), reverse=True)]
    named = (run.config.get("model") or {}).get("path")
    if isinstance(named, str):
        with suppress(ConfigError):  # an address that this machine has no copy of
            places.insert(0, resolve_path(named))
    return next((place / VOCABULARY for place in places if (place / VOCABULARY).is_file()), None)


def pieces(path: Path, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a character of several tokens stands with its last one."""
    return [shown(piece, len(piece), 0) for piece in _decoded(_tokenizer(path, identity(path)), ids)]


def _decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    for token in ids:
        try:
            yield stream.step(tokenizer, token) or ""
        except Exception:  # the library's own, of a token that the text so far has no place for
            stream = DecodeStream(skip_special_tokens=False)
            yield tokenizer.id_to_token(token) or f"[{token}]"


@lru_cache(maxsize=4)
def _tokenizer(path: Path, _: tuple[int, ...]) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))
