"""What a run reads, checked before anything is started or written: rows, pictures, golds, model folder, rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import QueryDataConfig
from pangu_rl.config.sections.data import DataConfig, SftDataConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import DpoDataConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.data.conversations import Conversation, load_conversations, trained_conversation
from pangu_rl.data.drawn_rows import IndexedRows, ReadRows, StageRows, read_when_drawn
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.formats.mixture import first_copy
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.pairs import Pair, asked_by, load_pairs, without_queries_of
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.data.prompts import load_prompts
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.loops.decoding import decode_bounded
from pangu_rl.loops.mixture import mixture, shared
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Picture, Prompt
from rewards.audit import gold_problem
from rewards.rubric import Rubric

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoInputs:
    """The prompts of a run."""

    loader: RowLoader
    train: list[Prompt]
    heldout: list[Prompt]
    skipped: list[str]
    """A line (file, row, reason) for each row left out."""

    def both(self) -> int:
        """Held-out prompts that are trained on too, word for word: their accuracy says nothing of others."""
        if not self.heldout:
            return 0
        trained = set(map(_asked, self.train))
        return sum(_asked(prompt) in trained for prompt in self.heldout)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftInputs:
    """The conversations of a run."""

    loader: RowLoader
    train: StageRows[Conversation]


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


def held_out_and_trained(both: int, held_out: int) -> str:
    """The warning of so many prompts."""
    return (
        f"{both} of {held_out} held-out prompts are trained on too: what is measured on them says nothing of others; "
        "take them out of data.train or data.heldout"
    )


def _asked(prompt: Prompt) -> tuple[Any, ...]:
    return repr(prompt.messages), prompt.images, prompt.videos


def read_grpo_inputs(config: GrpoConfig) -> GrpoInputs:
    """Read and audit the prompts; every gold must be graded correct by the first reward function.

    Raises:
        UserError: a file, a row, a picture, a model folder or a reward function that cannot be used.
    """
    check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    encoder, folder = open_model(config.model, config.data, config.trainer.seed)
    grade = Rubric.from_config(config.rewards).functions[0].call

    def problem(prompt: Prompt) -> str | None:
        too_long = prompt_problem(prompt, encoder, folder, config.data.max_prompt_tokens)
        return too_long or gold_problem(prompt, grade)

    reading = Reading.of(config.data, encoder.template.opened)

    def load(path: str) -> Loaded[Prompt]:
        return load_prompts(resolve_path(path), on_bad_row=config.data.on_bad_row, check_gold=problem, reading=reading)

    loaded = [mixture(config.data, load), *([load(config.data.heldout)] if config.data.heldout else [])]
    (train, *rest), loader = with_sound_pictures(loaded, encoder, folder)
    train = shared(train, config.data, {}, loader)
    return GrpoInputs(
        loader=loader,
        train=train.records,
        heldout=rest[0].records[: config.data.heldout_limit] if rest else [],
        skipped=[line for part in (train, *rest) for line in part.skipped],
    )


def read_sft_inputs(config: SftConfig) -> SftInputs:
    """Read the conversations.

    Raises:
        UserError: a file, a row, a picture or a model folder that cannot be used.
    """
    limit = config.data.max_tokens
    check_length(resolve_path(config.model.path), limit, "data.max_tokens")
    encoder, folder = open_model(config.model, config.data, config.trainer.seed)
    alone = not config.data.also and config.data.shares_by == "samples"
    if read_when_drawn(resolve_path(config.data.train), Reading.of(config.data), alone=alone):
        rows = _indexed(config.data.train, config.data, encoder, folder).mixed(config.data.shares)
        return SftInputs(loader=RowLoader(encoder, folder, {}, notes=rows.notes()), train=rows)
    sizes: dict[str, int] = {}
    loaded = mixture(config.data, lambda path: _conversations(path, config.data, encoder, folder, sizes))
    [train], loader = with_sound_pictures([loaded], encoder, folder)
    train = shared(train, config.data, sizes, loader)
    return SftInputs(loader=loader, train=ReadRows.of(train, loader.digests))


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
                f"the prompt and its longer response have {row.num_tokens} tokens{_share(pictures)}, "
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
        loaded.append(_conversations(data.sft, data, encoder, folder))
    (pairs, *rest), loader = with_sound_pictures(loaded, encoder, folder)
    pairs = shared(pairs, data, sizes, loader)
    digest = xxhash.xxh3_128()
    for pair in pairs.records:
        digest.update(encoded[first_copy(pair.uid, encoded)])
        digest.update("".join(loader.digests[path] for path in (*pair.images, *pair.videos)).encode())
    sft, asked = None, 0
    if drawn:
        sft = _indexed(data.sft, data, encoder, folder, _asked_by_pairs(pairs.records))
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


def _indexed(
    path: str,
    data: SftDataConfig | DpoDataConfig,
    encoder: Encoder,
    folder: PictureFolder,
    passed_over: Callable[[Conversation], str | None] = lambda row: None,
) -> IndexedRows[Conversation]:
    """The rows of `path`, each read and judged when it is drawn."""
    problem, reading = _conversation_problem(data, encoder, folder), Reading.of(data)

    def parse(row: Row, uid: str) -> Conversation:
        conversation = trained_conversation(row, uid, reading)
        if reason := problem(conversation) or folder.audit([conversation]).problem(conversation):
            raise BadRow(reason)
        return conversation

    return IndexedRows.of(
        resolve_path(path),
        "conversation",
        on_bad_row=data.on_bad_row,
        parse=parse,
        reading=reading,
        media_root=folder.root,
        passed_over=passed_over,
    )


def _conversations(
    path: str,
    data: SftDataConfig | DpoDataConfig,
    encoder: Encoder,
    folder: PictureFolder,
    sizes: dict[str, int] | None = None,
) -> Loaded[Conversation]:
    """All rows of a file; `sizes` gets the tokens of each by its uid."""
    problem = _conversation_problem(data, encoder, folder, sizes)
    return load_conversations(resolve_path(path), on_bad_row=data.on_bad_row, check=problem, reading=Reading.of(data))


def _conversation_problem(
    data: SftDataConfig | DpoDataConfig,
    encoder: Encoder,
    folder: PictureFolder,
    sizes: dict[str, int] | None = None,
) -> Callable[[Conversation], str | None]:
    def problem(conversation: Conversation) -> str | None:
        pictures = folder.outlines(conversation)
        length = len(encoder.conversation(conversation.messages, pictures, conversation.tools).token_ids)
        if sizes is not None:
            sizes[conversation.uid] = length
        too_long = f"the conversation has {length} tokens{_share(pictures)}, data.max_tokens is {data.max_tokens}"
        return too_long if length > data.max_tokens else None

    return problem


def prompt_problem(prompt: Prompt, encoder: Encoder, folder: PictureFolder, limit: int) -> str | None:
    """Why the model cannot be asked `prompt` in `limit` tokens, or None."""
    pictures = folder.outlines(prompt)
    length = len(encoder.prompt(prompt.messages, pictures, prompt.tools).token_ids)
    if length <= limit:
        return None
    return f"the prompt has {length} tokens{_share(pictures)}, data.max_prompt_tokens is {limit}"


def open_model(
    model: ModelConfig, data: DataConfig | SftDataConfig | DpoDataConfig | QueryDataConfig, seed: int | None
) -> tuple[Encoder, PictureFolder]:
    """What rows are encoded with, and the folder of their pictures; `seed` as in `PictureFolder`."""
    path = resolve_path(model.path)
    encoder = Encoder(path, model.chat_template, trust_remote_code=model.trust_remote_code)
    named = [getattr(data, key, None) for key in ("train", "queries")]
    rows = [resolve_path(file) for file in named if file is not None]
    return encoder, PictureFolder(data.media_root, path, encoder.family, seed=seed, rows=rows, decode=decode_bounded)


def with_sound_pictures(
    loaded: Sequence[Loaded[Any]], encoder: Encoder, folder: PictureFolder
) -> tuple[list[Loaded[Any]], RowLoader]:
    """The rows whose pictures and videos all decode, and what loads them."""
    audit = folder.audit(row for part in loaded for row in part.records)
    sound = [part.without(audit.problem) for part in loaded]
    trims = [f"{note} of {rows} rows" for note, rows in encoder.template.notes.items()]
    notes = [*(note for part in loaded for note in part.notes), *trims]
    return sound, RowLoader(encoder, folder, audit.digests, notes=notes)


def _share(pictures: Sequence[Picture]) -> str:
    return f" ({sum(picture.tokens for picture in pictures)} of them its pictures')" if pictures else ""


def check_length(model: Path, tokens: int, key: str) -> None:
    """Refuse sequences longer than the positions that the model was made for.

    Raises:
        DataError: no model folder. ConfigError: `tokens` exceeds `max_position_embeddings`.
    """
    config = model_config(model)
    positions = (config.get("text_config") or config).get("max_position_embeddings")
    if positions is not None and tokens > positions:
        raise ConfigError(f"{key} is {tokens}, the model in {model} has {positions} positions: lower {key} to that")
