"""The prompt set of RL: rows -> `Prompt` records, audited at load, and the resumable order they are trained in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank, text_field
from pangu_rl.data.fields.messages import prompt_messages, tool_list
from pangu_rl.data.files.rows import Check, Loaded, OnBadRow, load_records
from pangu_rl.data.formats.reading import AS_OURS, Reading
from pangu_rl.data.media.columns import is_time_precise, media_of
from pangu_rl.records import Prompt

_KNOWN_KEYS = {"id", "messages", "prompt", "answer", "answer_type", "images", "videos", "source", "tools"}


def load_prompts(
    path: Path,
    *,
    on_bad_row: OnBadRow = "refuse",
    check: Check[Prompt] | None = None,
    reading: Reading = AS_OURS,
) -> Loaded[Prompt]:
    """Read a prompt set: rows with `messages` (or `prompt`, one user message) and `answer`.

    Raises:
        DataError: no such file, no usable row, or a bad row that may not be skipped; names file and row.
    """
    return load_records(
        path,
        "prompt",
        on_bad_row=on_bad_row,
        parse=lambda row, uid: replace(parse_prompt(row, uid), opened=reading.opened),
        check=check,
        reading=reading,
    )


def parse_prompt(row: Row, uid: str) -> Prompt:
    """One row -> a prompt; raises `BadRow` with the key at fault."""
    messages = prompt_messages(row)
    if messages[-1]["role"] == "assistant":
        raise BadRow(
            "messages end with an assistant turn: leave the answer out, `answer` carries it; where another column "
            "holds the question, name messages in data.pass_through"
        )
    answer = answer_text(row)
    messages, images, videos = media_of(row, messages)
    return Prompt(
        uid=uid,
        messages=messages,
        answer=answer,
        answer_type=text_field(row, "answer_type", "auto"),
        images=images,
        videos=videos,
        time_precise=is_time_precise(row),
        source=text_field(row, "source", ""),
        tools=tool_list(row),
        extra={key: value for key, value in row.items() if key not in _KNOWN_KEYS},
    )


def answer_text(row: Row) -> str:
    """The row's `answer`: text, or a number, list or object, which is written as JSON, as golds often are.

    Raises:
        BadRow: no answer, an empty one, or true or false, which may be meant as many a word.
    """
    value = row.get("answer")
    if isinstance(value, bool):
        raise BadRow(f"key answer is {str(value).lower()}, not text: write the word that is to be answered")
    if isinstance(value, (int, float)) or (isinstance(value, (list, dict)) and value):
        return json.dumps(value, ensure_ascii=False)
    answer = "" if isinstance(value, (list, dict)) else text_field(row, "answer")
    if is_blank(answer):
        raise BadRow("key answer is empty")
    return answer


def readable(prompt: Prompt) -> str:
    """The last message for a person: its text, after the paths of the prompt's pictures."""
    content = prompt.messages[-1]["content"]
    pieces = [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
    return "\n".join(
        [
            *(f"[picture {path}]" for path in prompt.images),
            *(f"[video {path}]" for path in prompt.videos),
            *pieces,
        ]
    )
