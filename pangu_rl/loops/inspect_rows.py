"""A file of rows -> **what would be trained of it**: first rows token by token, lengths, refusals by reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.data.conversations import Conversation, load_conversations
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.pairs import Pair, load_pairs
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.data.prompts import load_prompts
from pangu_rl.records import Prompt

Stage = Literal["sft", "dpo", "grpo"]
READ, TRAINED, REJECTED, PICTURE, GOLD = "dim", "bold green", "bold red", "cyan", "bold magenta"
QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a file holds for one stage and model."""

    shown: list[tuple[str, Text]]
    """(uid, its tokens) of the first rows."""
    lengths: list[int]
    """Tokens of every usable row, of a pair with its longer answer."""
    trained: list[int]
    """Those in the loss; of a pair both answers."""
    refused: dict[str, tuple[int, str]]
    """Reason without its values -> how many rows, and the first one's line."""
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": len(self.lengths),
            "lengths": _quantiles(self.lengths),
            "trained_tokens": sum(self.trained),
            "refused": {first: count for count, first in self.refused.values()},
            "notes": self.notes,
        }

    def table(self) -> Group:
        """For a terminal: rows, lengths, then what was left out and why."""
        sizes = Table(box=None, show_header=False, pad_edge=False)
        sizes.add_row("rows", str(len(self.lengths)))
        sizes.add_row("tokens", ", ".join(f"{name} {value}" for name, value in _quantiles(self.lengths).items()))
        sizes.add_row("trained", str(sum(self.trained)))
        for count, first in self.refused.values():
            sizes.add_row(Text(f"{count} refused", style="red"), Text(first))
        for note in self.notes:
            sizes.add_row(Text("note", style="yellow"), Text(note))
        return Group(*(Panel(text, title=Text(uid), title_align="left") for uid, text in self.shown), sizes)


def inspect_rows(
    path: Path, stage: Stage, encoder: Encoder, folder: PictureFolder, *, data: RowsConfig, rows: int
) -> Inspection:
    """Read all of `path` as `stage` would, and show its first `rows` usable rows. No picture is decoded.

    Raises:
        UserError: a file or a model folder that cannot be used, or no usable row.
    """
    encoded: list[tuple[Any, list[TrainingRow]]] = []

    def encode(row: Conversation | Pair | Prompt) -> None:
        encoded.append((row, _encoded(row, encoder, folder)))

    loaded = _LOADERS[stage](path, on_bad_row="skip", reading=Reading.of(data), check=encode)
    told = [f"{count} {note}" for note, count in encoder.template.notes.items()]
    return Inspection(
        shown=[(row.uid, _text(row, parts, encoder)) for row, parts in encoded[:rows]],
        lengths=[max(len(part.token_ids) for part in parts) for _, parts in encoded],
        trained=[sum(sum(part.trained) for part in parts) for _, parts in encoded],
        refused=_by_reason(loaded.skipped),
        notes=[*loaded.notes, *told],
    )


_LOADERS = {"sft": load_conversations, "dpo": load_pairs, "grpo": load_prompts}


def _encoded(row: Conversation | Pair | Prompt, encoder: Encoder, folder: PictureFolder) -> list[TrainingRow]:
    """One row of tokens, of a pair one for each answer behind the same prompt."""
    pictures = folder.outlines(row)
    if isinstance(row, Conversation):
        return [encoder.conversation(row.messages, pictures, row.tools)]
    if isinstance(row, Prompt):
        return [encoder.prompt(row.messages, pictures, row.tools)]
    pair = encoder.pair(row, pictures)
    return [
        TrainingRow(
            token_ids=(*pair.prompt.token_ids, *answer),
            trained=(*pair.prompt.trained, *(True for _ in answer)),
            pictures=pair.prompt.pictures,
        )
        for answer in (pair.chosen, pair.rejected)
    ]


def _text(row: Conversation | Pair | Prompt, parts: Sequence[TrainingRow], encoder: Encoder) -> Text:
    first, *others = parts
    text = Text()
    for piece, style in _pieces(first, encoder, TRAINED):
        text.append(piece, style=style)
    for other in others:
        text.append("\n")
        for piece, style in _pieces(other, encoder, REJECTED):
            if style == REJECTED:
                text.append(piece, style=style)
    if isinstance(row, Prompt):
        text.append(f"\nanswer ({row.answer_type}): {row.answer}", style=GOLD)
    return text


def _pieces(row: TrainingRow, encoder: Encoder, trained: str) -> Iterator[tuple[str, str]]:
    """Runs of tokens as text, each with its style; a picture is named where it stands, a video at its first frame."""
    tokenizer = encoder.template.tokenizer
    frames = ((picture, number) for picture in row.pictures for number in range(picture.grid[0]))
    kinds = [
        PICTURE if index in encoder.placeholders else trained if kept else READ
        for index, kept in zip(row.token_ids, row.trained, strict=True)
    ]
    for style, run in groupby(zip(kinds, row.token_ids, strict=True), key=lambda pair: pair[0]):
        ids = [index for _, index in run]
        if style != PICTURE:
            yield tokenizer.decode(ids), style
            continue
        left = len(ids)
        while left > 0:
            picture, number = next(frames)
            if number == 0:
                yield f"[{picture.path}: {picture.tokens} tokens]", PICTURE
            left -= picture.tokens // picture.grid[0]


def _by_reason(skipped: Sequence[str]) -> dict[str, tuple[int, str]]:
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for line in skipped:
        reason = _VALUES.sub("*", line.partition(": ")[2])
        counts[reason] += 1
        first.setdefault(reason, line)
    return {reason: (count, first[reason]) for reason, count in counts.most_common()}


def _quantiles(lengths: Sequence[int]) -> dict[str, int]:
    names = ("least", "median", "90 %", "99 %", "most")
    return dict(zip(names, np.quantile(lengths, QUANTILES, method="lower").astype(int).tolist(), strict=True))
