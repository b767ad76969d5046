"""The prompt set of RL: rows -> `Prompt` records, audited at load, and the resumable order they are trained in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pangu_rl.data.images import check_image_parts, image_paths
from pangu_rl.data.rows import BadRow, Loaded, OnBadRow, Row, load_records, message_list, text_field
from pangu_rl.records import Prompt

_KNOWN_KEYS = {"id", "messages", "prompt", "answer", "answer_type", "images", "source"}


def load_prompts(
    path: Path, *, on_bad_row: OnBadRow = "refuse", check_gold: Callable[[Prompt], str | None] = lambda prompt: None
) -> Loaded[Prompt]:
    """Read a prompt set: rows with `messages` (or `prompt`, one user message) and `answer`.

    `check_gold` returns why a prompt cannot be used (its gold does not grade itself correct, it is too long), or None.

    Raises:
        DataError: no such file, no usable row, or a bad row that may not be skipped; names file and row.
    """

    def parse(row: Row, uid: str) -> Prompt:
        prompt = parse_prompt(row, uid)
        problem = check_gold(prompt)
        if problem is not None:
            raise BadRow(problem)
        return prompt

    return load_records(path, on_bad_row=on_bad_row, parse=parse)


def parse_prompt(row: Row, uid: str) -> Prompt:
    """One row -> a prompt; raises `BadRow` with the key at fault."""
    if row.get("messages") is not None:
        messages = message_list(row)
        if messages[-1]["role"] == "assistant":
            raise BadRow("messages end with an assistant turn: leave the answer out, `answer` carries it")
    else:
        text = text_field(row, "prompt")
        if not text.strip():
            raise BadRow("key prompt is empty")
        messages = ({"role": "user", "content": text},)
    answer = text_field(row, "answer")
    if not answer.strip():
        raise BadRow("key answer is empty")
    images = image_paths(row)
    check_image_parts(messages, images)
    return Prompt(
        uid=uid,
        messages=messages,
        answer=answer,
        answer_type=text_field(row, "answer_type", "auto"),
        images=images,
        source=text_field(row, "source", ""),
        extra={key: value for key, value in row.items() if key not in _KNOWN_KEYS},
    )


def readable(prompt: Prompt) -> str:
    """The last message for a person: its text, after the paths of the prompt's pictures."""
    content = prompt.messages[-1]["content"]
    pieces = [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
    return "\n".join([*(f"[picture {path}]" for path in prompt.images), *pieces])
