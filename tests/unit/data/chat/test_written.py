"""What a row says is trained: reasoning, calls, ends of turns; or what the template leaves out is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.config.paths import resolve_path
from pangu_rl.data.chat.turns import answer_alone
from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.errors import ConfigError, DataError
from tests.builders import SMOLLM2

USER = {"role": "user", "content": "question"}
TURN = "<|im_start|>{{ m.role }}\n%s<|im_end|>\n"
LOOP = "{%% for m in messages %%}%s{%% endfor %%}{%% if add_generation_prompt %%}<|im_start|>assistant\n%s{%% endif %%}"
PLAIN = "{{ m.content }}"
DROPS = "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
QWEN3 = (
    "{% set c = m.content %}{% set r = m.reasoning_content or '' %}"
    "{% if m.role == 'assistant' and '</think>' in c %}"
    "{% set r = c.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n' + r + '\n</think>\n\n' + c }}"
    "{% else %}{{ c }}{% endif %}"
)
"""As Qwen3 writes answers: a block in the last turn, empty if it must be, and none in those before."""
CALLS = (
    "{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}"
)


def template(folder: Path, text: str) -> ChatTemplate:
    path = folder / "template.jinja"
    path.write_text(text, encoding="utf-8")
    return ChatTemplate(resolve_path(SMOLLM2), str(path))


def loop(turn: str, opening: str = "") -> str:
    return LOOP % (TURN % turn, opening)


def answer(content: str | None, **more: object) -> dict:
    return {"role": "assistant", "content": content, **more}


def trained(chat: ChatTemplate, *messages: dict, tools: tuple = ()) -> str:
    ids, mask = chat.encode_conversation(messages, tools)
    return chat.tokenizer.decode([index for index, kept in zip(ids, mask, strict=True) if kept])


@pytest.mark.parametrize(
    ("turn", "opening", "content", "written"),
    [
        (DROPS, "<think>\n", "<think>\nwhy</think>so", "why</think>so<|im_end|>"),
        (DROPS, "<think>\n", "<think>why</think>so", "why</think>so<|im_end|>"),
        (DROPS, "<think>\n", "why</think>so", "why</think>so<|im_end|>"),
        (DROPS, "", "<think>why</think>so", "<think>why</think>so<|im_end|>"),
        (PLAIN, "<think>\n", "<think>\nwhy</think>so", "why</think>so<|im_end|>"),
        (QWEN3, "", "<think>\nwhy\n</think>\n\nso", "<think>\nwhy\n</think>\n\nso<|im_end|>"),
        (QWEN3, "", "so", "<think>\n\n</think>\n\nso<|im_end|>"),
        (QWEN3, "<think>\n", "so", "\n</think>\n\nso<|im_end|>"),
    ],
)
def test_reasoning_of_the_last_turn_is_trained(
    tmp_path: Path, turn: str, opening: str, content: str, written: str
) -> None:
    """What stands in the loss goes on from the prompt, whatever the template does to a finished turn."""
    chat = template(tmp_path, loop(turn, opening))
    assert trained(chat, USER, answer(content)) == written
    ids, _ = chat.encode_conversation([USER, answer(content)])
    prompt = chat.encode_prompt([USER])
    assert ids[: len(prompt)] == prompt
    assert chat.tokenizer.decode(chat.encode_response([USER], content)) == written
    assert chat.opened == ("<think>" if opening else "")


def test_pairs_differ_by_their_reasoning_too(tmp_path: Path) -> None:
    chat = template(tmp_path, loop(DROPS))
    chosen, rejected = (chat.encode_response([USER], f"<think>{why}</think>x") for why in "ab")
    assert chosen != rejected


def test_an_answer_without_the_end_of_an_opened_block(tmp_path: Path) -> None:
    """Whole, it is refused; cut by the limit, it is what the model wrote."""
    chat = template(tmp_path, loop(DROPS, "<think>\n"))
    with pytest.raises(DataError, match=r"opens <think> for the assistant, and the answer 'so' has no </think>"):
        chat.encode_response([USER], "so")
    assert chat.tokenizer.decode(chat.encode_response([USER], "still thinking", ended=False)) == "still thinking"
    thinks = template(tmp_path, loop(QWEN3, "<think>\n"))
    assert thinks.tokenizer.decode(thinks.encode_response([USER], "still thinking", ended=False)) == "still thinking"


@pytest.mark.parametrize(
    ("opening", "closing"), [("◁think▷", "◁/think▷"), ("[THINK]", "[/THINK]"), ("[unused16]", "[unused17]")]
)
def test_blocks_of_other_models(tmp_path: Path, opening: str, closing: str) -> None:
    chat = template(tmp_path, loop(PLAIN, f"{opening}\n"))
    assert chat.opened == opening
    assert trained(chat, USER, answer(f"{opening}\nwhy{closing}so")) == f"why{closing}so<|im_end|>"
    assert trained(chat, USER, answer("so", reasoning_content="why")) == f"why\n{closing}\n\nso<|im_end|>"
    with pytest.raises(DataError) as caught:
        chat.encode_response([USER], "so")
    assert f"opens {opening} for the assistant, and the answer 'so' has no {closing}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("<think>why</think>\nso", "so"),
        ("why</think>so", "so"),
        ("[unused16]why[unused17]so", "so"),
        ("◁think▷why◁/think▷so", "so"),
        ("<thought>why</thought>so", "so"),
        ("write </thought> behind it", "write </thought> behind it"),
        ("[THINK]why", "[THINK]why"),
    ],
)
def test_reasoning_is_taken_off_of_every_model(text: str, alone: str) -> None:
    assert answer_alone(text) == alone


def test_reasoning_content_is_written_or_refused(tmp_path: Path) -> None:
    turn = answer("so", reasoning_content="why")
    assert trained(template(tmp_path, loop(QWEN3)), USER, turn) == "<think>\nwhy\n</think>\n\nso<|im_end|>"
    assert trained(template(tmp_path, loop(DROPS, "<think>\n")), USER, turn) == "why\n</think>\n\nso<|im_end|>"
    with pytest.raises(DataError, match=r"leaves out the reasoning_content \('why'\) of the last turn"):
        trained(template(tmp_path, loop(PLAIN)), USER, turn)


def test_earlier_turns_lose_their_reasoning_only_where_they_are_not_trained(tmp_path: Path) -> None:
    chat = template(tmp_path, loop(QWEN3))
    first, last = answer("<think>why</think>one"), answer("two")
    with pytest.raises(DataError, match="writes turn 2 differently when others follow"):
        chat.encode_conversation([USER, first, USER, last])
    read = {**first, "train": False}
    assert trained(chat, USER, read, USER, last) == "<think>\n\n</think>\n\ntwo<|im_end|>"
    with pytest.raises(DataError, match=r"leaves out the text \('<think>why</think>one'\) of turn 2"):
        template(tmp_path, loop(DROPS)).encode_conversation([USER, first, USER, last])


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_a_template_without_an_end_of_turn_is_refused(tmp_path: Path, text: str, ended: bool) -> None:
    chat = template(tmp_path, text)
    with pytest.raises(ConfigError, match="writes no end of turn"):
        chat.encode_conversation([USER, answer("hello world")])
    with pytest.raises(ConfigError, match="writes no end of turn"):
        chat.encode_response([USER], "hello", ended=ended)
    assert chat.end_token is None
    assert chat.encode_prompt([USER])  # asking needs none


def test_a_turn_that_the_template_leaves_out_is_refused_by_name(tmp_path: Path) -> None:
    """Also where its text stands elsewhere by chance."""
    silent = (
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    chat = template(tmp_path, silent + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    system = {"role": "system", "content": "user"}
    for call in (chat.encode_prompt, chat.encode_conversation):
        with pytest.raises(DataError, match=r"leaves out the system turn \(1\)"):
            call([system, USER])
    with pytest.raises(DataError, match="leaves out tools"):
        chat.encode_prompt([USER], [{"type": "function", "function": {"name": "search", "description": "find"}}])


def test_trimmed_white_space_is_noted(tmp_path: Path) -> None:
    chat = template(tmp_path, loop("{{ m.content | trim }}"))
    chat.encode_conversation([USER, answer("x")])
    assert not chat.notes
    assert trained(chat, USER, answer("  x ")) == "x<|im_end|>"
    assert list(chat.notes.items()) == [("rows: the chat template trims white space at the ends of contents", 1)]


SEARCH = {"type": "function", "function": {"name": "search", "arguments": {"q": "x", "n": 2}}}


def test_calls_are_trained_and_their_results_are_not(tmp_path: Path) -> None:
    chat = template(tmp_path, loop(CALLS))
    result = {"role": "tool", "content": "found 7"}
    call = '<tool_call>\n{"name": "search", "arguments": {"q": "x", "n": 2}}\n</tool_call><|im_end|>'
    assert trained(chat, USER, answer("", tool_calls=[SEARCH]), result, answer("7")) == call + "7<|im_end|>"
    assert trained(chat, USER, answer(None, tool_calls=[SEARCH])) == call


def test_calls_that_the_template_leaves_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves out the call of search of the last turn"):
        trained(template(tmp_path, loop(PLAIN)), USER, answer("ok", tool_calls=[SEARCH]))


def test_templates_that_join_arguments_as_text_get_text(tmp_path: Path) -> None:
    joins = CALLS.replace("call.function.arguments | tojson", "':' + call.function.arguments")
    written = trained(template(tmp_path, loop(joins)), USER, answer("", tool_calls=[SEARCH]))
    assert written.count('"arguments": :{"q": "x", "n": 2}') == 1


def test_parts_of_text_are_text(tmp_path: Path) -> None:
    """Also for a template that joins contents to text, as those of text models do."""
    chat = template(tmp_path, loop("{{ '' + m.content }}"))
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert trained(chat, {"role": "user", "content": parts}, {"role": "assistant", "content": parts}) == "ab<|im_end|>"


def test_the_token_that_ends_a_turn(tmp_path: Path) -> None:
    assert template(tmp_path, loop(PLAIN)).end_token == 2
    assert template(tmp_path, loop(PLAIN).replace("<|im_end|>", "<|endoftext|>")).end_token == 0


PARTS = "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
"""As SmolVLM and LLaVA read contents."""


def test_templates_that_read_parts_alone_get_parts(tmp_path: Path) -> None:
    chat = template(tmp_path, loop(PARTS))
    assert trained(chat, USER, answer("one"), USER, answer("two")) == "one<|im_end|>two<|im_end|>"
    assert chat.tokenizer.decode(chat.encode_response([USER], "so")) == "so<|im_end|>"
    assert chat.end_token == 2


def test_a_template_that_writes_no_answer_is_refused(tmp_path: Path) -> None:
    chat = template(tmp_path, loop("{{ m.content if m.role == 'user' }}"))
    for call in (lambda: trained(chat, USER, answer("so")), lambda: chat.encode_response([USER], "so")):
        with pytest.raises(ConfigError, match="does not write what the assistant says"):
            call()


EMPTY = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("prefill", [EMPTY, "<think></think>", "◁think▷◁/think▷", "Sure: "])
@pytest.mark.parametrize("turn", [PLAIN, DROPS, PARTS, "{{ m.content | trim }}"])
def test_a_last_turn_stands_behind_the_words_that_its_prompt_begins_it_with(
    tmp_path: Path, prefill: str, turn: str
) -> None:
    chat = template(tmp_path, loop(turn, prefill))
    ids, mask = chat.encode_conversation([USER, answer("so")])
    assert chat.tokenizer.decode(ids).endswith(f"assistant\n{prefill}so<|im_end|>\n")
    assert chat.tokenizer.decode([index for index, kept in zip(ids, mask, strict=True) if kept]) == "so<|im_end|>"
    prompt = chat.encode_prompt([USER])
    assert ids[: len(prompt)] == prompt
    assert chat.tokenizer.decode(chat.encode_response([USER], "so", ended=False)) == "so"
    with pytest.raises(DataError, match="writes turn 2 differently when others follow"):
        chat.encode_conversation([USER, answer("so"), USER, answer("so")])


def test_what_the_template_leaves_out_stands_behind_a_prefill_too(tmp_path: Path) -> None:
    text = "<think>why</think>so"
    assert trained(template(tmp_path, loop(DROPS, "Sure: ")), USER, answer(text)) == text + "<|im_end|>"


def test_calls_stand_behind_a_prefill_too(tmp_path: Path) -> None:
    call = '<tool_call>\n{"name": "search", "arguments": {"q": "x", "n": 2}}\n</tool_call><|im_end|>'
    assert trained(template(tmp_path, loop(CALLS, EMPTY)), USER, answer("", tool_calls=[SEARCH])) == call
    with pytest.raises(DataError, match="leaves out the call of search"):
        trained(template(tmp_path, loop(PLAIN, EMPTY)), USER, answer("so", tool_calls=[SEARCH]))


@pytest.mark.parametrize("turn", [PLAIN, DROPS, QWEN3])
def test_a_prompt_that_closes_the_reasoning_takes_answers_without_any(tmp_path: Path, turn: str) -> None:
    chat = template(tmp_path, loop(turn, EMPTY))
    for content in ("so", "<think>\n\n</think>\n\nso", "<think></think>so"):
        assert trained(chat, USER, answer(content)) == "so<|im_end|>"
    for message in (answer("<think>why</think>so"), answer("so", reasoning_content="why")):
        with pytest.raises(DataError, match=r"closes the reasoning before the answer, .* has some \('why'\)"):
            trained(chat, USER, message)


@pytest.mark.parametrize("written", ["{{ call.function.arguments }}", "{{ ':' + call.function.arguments }}"])
def test_arguments_are_json_where_the_template_writes_them_as_they_are(tmp_path: Path, written: str) -> None:
    call = {"type": "function", "function": {"name": "search", "arguments": {"a": True, "b": "it's", "c": None}}}
    chat = template(tmp_path, loop(CALLS.replace("{{ call.function.arguments | tojson }}", written)))
    assert '{"a": true, "b": "it\'s", "c": null}' in trained(chat, USER, answer("", tool_calls=[call]))
    plain = template(tmp_path, loop(CALLS))
    assert '"arguments": {"a": true, "b": "it\'s", "c": null}}' in trained(plain, USER, answer("", tool_calls=[call]))
