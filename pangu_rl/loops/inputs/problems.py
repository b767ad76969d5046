"""Why a row cannot be used: it is too long for the model or the run, or its pictures do not decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pangu_rl.config.sections.data import SftDataConfig
from pangu_rl.config.sections.preference import DpoDataConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Picture, Prompt


def prompt_problem(prompt: Prompt, encoder: Encoder, folder: PictureFolder, limit: int) -> str | None:
    """Why the model cannot be asked `prompt` in `limit` tokens, or None."""
    pictures = folder.outlines(prompt)
    length = len(encoder.prompt(prompt.messages, pictures, prompt.tools).token_ids)
    if length <= limit:
        return None
    return f"the prompt has {length} tokens{share_of(pictures)}, data.max_prompt_tokens is {limit}"


def conversation_problem(
    data: SftDataConfig | DpoDataConfig,
    encoder: Encoder,
    folder: PictureFolder,
    sizes: dict[str, int] | None = None,
) -> Callable[[Conversation], str | None]:
    """Says of a conversation why it is too long, or None; `sizes` gets the tokens of each by its uid."""

    def problem(conversation: Conversation) -> str | None:
        pictures = folder.outlines(conversation)
        length = len(encoder.conversation(conversation.messages, pictures, conversation.tools).token_ids)
        if sizes is not None:
            sizes[conversation.uid] = length
        too_long = f"the conversation has {length} tokens{share_of(pictures)}, data.max_tokens is {data.max_tokens}"
        return too_long if length > data.max_tokens else None

    return problem


def with_sound_pictures(
    loaded: Sequence[Loaded[Any]], encoder: Encoder, folder: PictureFolder
) -> tuple[list[Loaded[Any]], RowLoader]:
    """The rows whose pictures and videos all decode, and what loads them."""
    audit = folder.audit(row for part in loaded for row in part.records)
    sound = [part.without(audit.problem) for part in loaded]
    told = [f"{count} {note}" for note, count in encoder.template.notes.items()]
    notes = [*(note for part in loaded for note in part.notes), *told]
    return sound, RowLoader(encoder, folder, audit.digests, notes=notes)


def share_of(pictures: Sequence[Picture]) -> str:
    """What pictures take of a row's tokens, to be told behind their number; empty without pictures."""
    return f" ({sum(picture.tokens for picture in pictures)} of them its pictures')" if pictures else ""
