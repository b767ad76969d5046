"""One completion -> **its tokens as text, with log-probs of sampler and learner and weight versions**, to colour by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from pangu_rl.checkpoint.step_folders import step_folders
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.pages.shown_text import shown
from pangu_rl.view.group import rows_of
from pangu_rl.view.opened import Run
from rollout.footers import identity
from rollout.reading import reading
from rollout.store import RolloutStore

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST = 20_000
"""Tokens that a page can hold."""
VOCABULARY = "tokenizer.json"


def read_tokens(run: Run, step: int, uid: str) -> dict[str, Any]:
    """`pieces`, `logprobs` of the sampler, `versions` of the weights (None where one drew all) and `mismatch`, as many
    of each; and a `note` where the pieces are no text, or not all. The mismatch is the learner's log-prob minus the
    sampler's, in nats; where it is not known it is None and `unmatched` says why.

    Raises:
        DataError: no such completion, or a store that cannot be read.
    """
    columns = ["token_ids", "logprobs", "weight_versions", "weight_version"]
    rows = rows_of(run.folder, step, ds.field("completion_uid") == uid, columns)
    if not rows:
        raise DataError(f"{run.name}: step {step} has no completion {uid[:80]!r}")
    row = rows[0]
    ids = row["token_ids"][:MOST]
    learner, unmatched = _learner_logprobs(run, step, uid)
    path = vocabulary(run)
    notes = [] if path else [f"numbers, since {VOCABULARY} of the model is not there"]
    if len(ids) < len(row["token_ids"]):
        notes.append(f"the first {MOST:,} of {len(row['token_ids']):,} tokens")
    return {
        "pieces": pieces(path, ids) if path else [f"{token} " for token in ids],
        "logprobs": row["logprobs"][:MOST],
        "versions": row["weight_versions"] and row["weight_versions"][:MOST],
        "mismatch": learner and [ours - drawn for ours, drawn in zip(learner[:MOST], row["logprobs"])],
        "unmatched": unmatched,
        "note": "; ".join(notes),
    }


def _learner_logprobs(run: Run, step: int, uid: str) -> tuple[list[float] | None, str]:
    """Of each token, or None and why there are none."""
    store = RolloutStore(run.folder)
    with reading(store.directory):
        if (found := store.learned.read(step, uid)) is not None:
            return found, ""
        known = any(shard.first <= step <= shard.last for shard in store.learned.shards())
    if known:
        return None, "the learner did not train on this answer: it has no advantage, or was set aside"
    return None, "of this step the store has no log-probs of the learner: it is older, or trained nothing on them"


def vocabulary(run: Run) -> Path | None:
    """Of the model that the run starts from, else of its own newest checkpoint."""
    places = [folder / "hf" for folder in reversed(step_folders(run.folder))]
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
