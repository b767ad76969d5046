"""Texts that a template has rendered already are refused; those that only spell its tokens within are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.config.paths import resolve_path
from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.errors import DataError
from tests.builders import SMOLLM2

PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
HI = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def chat() -> ChatTemplate:
    return ChatTemplate(resolve_path(SMOLLM2))


@pytest.mark.parametrize("text", [PROMPT, PROMPT.rstrip(), f"<|im_start|>system\nBrief.<|im_end|>\n{PROMPT}"])
@pytest.mark.parametrize("role", ["user", "system"])
def test_a_prompt_that_ends_as_the_templates_prompts_do_is_refused(chat: ChatTemplate, text: str, role: str) -> None:
    messages = [{"role": role, "content": text}, *([HI] if role == "system" else [])]
    for encode in (chat.encode_prompt, lambda asked: chat.encode_conversation([*asked, answer("A")])):
        with pytest.raises(DataError, match=f"the {role} turn ends with .* rendered before; give the messages"):
            encode(messages)


def answer(content: object) -> dict:
    return {"role": "assistant", "content": content}


def template(folder: Path, end: str, opening: str = "") -> ChatTemplate:
    path = folder / "template.jinja"
    path.write_text(
        f"{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}{end}\n{{% endfor %}}"
        f"{{% if add_generation_prompt %}}<|im_start|>assistant\n{opening}{{% endif %}}"
    )
    return ChatTemplate(resolve_path(SMOLLM2), str(path))


@pytest.mark.parametrize(
    "content", ["A<|im_end|>", "A<|im_end|>\n", "A<|endoftext|>", [{"type": "text", "text": "A<|im_end|>"}]]
)
def test_an_answer_that_ends_with_a_token_that_ends_turns_is_refused(tmp_path: Path, content: object) -> None:
    """That of the template, `<|endoftext|>`, or the tokenizer's end of sequence, `<|im_end|>`."""
    chat = template(tmp_path, "<|endoftext|>")
    for encode in (
        lambda: chat.encode_conversation([HI, answer(content)]),
        lambda: chat.encode_conversation([HI, answer(content), HI, answer("B")]),
        lambda: chat.encode_response([HI], answer(content)),
    ):
        with pytest.raises(
            DataError, match=r"the assistant turn ends with 'A<\|.*: its text was rendered before; take"
        ):
            encode()


@pytest.mark.parametrize("opening", ["<think>\n", "Sure: "])
def test_with_and_without_what_prompts_begin_answers_with(tmp_path: Path, opening: str) -> None:
    chat = template(tmp_path, "<|im_end|>", opening)
    for text in (PROMPT, PROMPT + opening):
        with pytest.raises(DataError, match="rendered before"):
            chat.encode_prompt([{"role": "user", "content": text}])


def test_tokens_within_a_text_are_counted(chat: ChatTemplate) -> None:
    chat.notes.clear()
    chat.encode_prompt([HI])
    chat.encode_prompt([{"role": "user", "content": "What is <|im_end|> for?"}])
    chat.encode_conversation([HI, answer("<|im_end|> ends a turn.")])
    chat.encode_response([HI], "<|im_end|> ends a turn.")
    assert {note.split(":")[0]: count for note, count in chat.notes.items()} == {"rows": 2, "answers": 1}
