"""Question, reference and response as a scorer may see them: cut, without control characters and control tokens.

Whatever a text holds, it stays inside its block: the block's delimiter is drawn per request and cannot be known, and no
sequence that a chat template treats as the end of a turn survives.
"""

from __future__ import annotations

import re
import unicodedata

_LESS, _MORE, _BAR = "[<＜]", "[>＞]", "[|｜]"
_NAMES = (
    "s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|start_of_image|end_of_image|image|img|video|audio|box|ref|"
    "quad|think|thinking|tool_call|tool_response|tools|system|user|assistant|human|extra_id_\\d+|unused\\d+|"
    "reserved_\\w+|im_start|im_end|image_soft_token"
)
_BRACKETED = (
    "INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|IMG_BREAK|IMG_END|BEGIN_OF_\\w+|"
    "END_OF_\\w+|THINK|unused\\d+|CLS|SEP|MASK|PAD|UNK|BOS|EOS|gMASK|sMASK"
)
# Each alternative is the opening of a control token; a space after its first character makes plain text of it.
_CONTROL_TOKEN = re.compile(
    f"{_LESS}(?={_BAR})|{_BAR}(?={_MORE})|{_LESS}(?={_LESS}/?SYS)|{_LESS}(?=/?(?:{_NAMES})[ ]?/?{_MORE})|"
    f"\\[(?=/?(?:{_BRACKETED})\\])",
    re.IGNORECASE,
)


def clean(text: str, max_chars: int) -> str:
    """`text`, at most `max_chars` of it (the start and the end, with the cut marked), as inert plain text."""
    text = "".join(_plain(character) for character in _cut(text, max_chars))
    return _CONTROL_TOKEN.sub(lambda match: match.group() + " ", text).strip()


def one_line(text: str, max_chars: int) -> str:
    """For messages and votes: `text` without line breaks and control characters."""
    text = " ".join("".join(_plain(character) for character in text[: 4 * max_chars]).split())
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def _cut(text: str, max_chars: int) -> str:
    """The end is kept too: that is where the answer stands."""
    if len(text) <= max_chars:
        return text
    tail = max_chars // 3
    head = max_chars - tail
    return f"{text[:head]}\n[... {len(text) - max_chars} characters cut ...]\n{text[len(text) - tail :]}"


def _plain(character: str) -> str:
    if character in "\n\t":
        return character
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"  # a lone surrogate has no UTF-8
    return "" if category in ("Cc", "Cf") else character
