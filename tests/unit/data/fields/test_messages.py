"""Messages of rows: what a turn may have, what trains it, calls and tools in all their spellings."""

from __future__ import annotations

from typing import Any

import pytest

from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.fields.messages import message_list, tool_list
from pangu_rl.data.pairs import parse_pair

USER = {"role": "user", "content": "q"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"q": "x", "n": None}}}


def assistant(content: Any = "a", **more: Any) -> dict:
    return {"role": "assistant", "content": content, **more}


def test_calls_may_be_spelled_as_text_or_flat_and_need_no_content() -> None:
    """An argument that is null stays: it was written so."""
    as_text = {**CALL, "function": {"name": "f", "arguments": '{"q": "x", "n": null}'}}
    flat = {"id": "c1", "name": "f", "arguments": {"q": "x", "n": None}}
    for call in (CALL, as_text, flat):
        assert message_list({"messages": [USER, assistant(None, tool_calls=[call])]})[1]["tool_calls"] == [CALL]
    [_, turn] = message_list({"messages": [USER, assistant(None, tool_calls=[CALL])]})
    assert turn["content"] == ""
    assert parse_conversation({"messages": [USER, assistant(None, tool_calls=[CALL])]}, "1").messages[1] == turn


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (assistant(images=["a.png"]), "key images: pictures belong in the row's images"),
        (assistant(function_call={"name": "f"}), "key function_call: write it as tool_calls"),
        (assistant(thinking="t"), "key thinking: write it as reasoning_content"),
        (assistant(mask=1), "key mask: no template reads it"),
        (assistant(weight=0.5), r"weight is '0\.5': a turn is trained"),
        (assistant(train="no"), "train is 'no'"),
        (assistant(reasoning_content=["t"]), "reasoning_content is list, not text"),
        (assistant(tool_calls="nothing"), "tool_calls is text that is no JSON"),
        (assistant(tool_calls=[{"function": {}}]), "needs a function with a name"),
        (assistant(tool_calls=[{"function": {"name": "f", "arguments": "{x"}}]), "arguments is text that is no JSON"),
        (assistant(tool_calls=[{"function": {"name": "f", "arguments": [1]}}]), "arguments is list, not an object"),
        (assistant(None), "needs a content of text or parts"),
        ({**USER, "weight": 1}, "a user turn with weight 1: only the assistant's"),
        ({**USER, "tool_calls": [CALL]}, "a user turn with tool_calls"),
    ],
)
def test_what_no_template_would_read_is_refused_by_name(turn: dict, reason: str) -> None:
    with pytest.raises(BadRow, match=rf"messages\[1\].*{reason}"):
        message_list({"messages": [USER, turn]})


@pytest.mark.parametrize("key", ["weight", "train", "loss"])
def test_one_key_says_whether_a_turn_is_trained(key: str) -> None:
    for off in (0, False, 0.0):
        [turn, _, last] = message_list({"messages": [assistant(**{key: off}), USER, assistant(**{key: 1})]})
        assert turn == assistant(train=False)
        assert last == assistant()
    with pytest.raises(BadRow, match="no assistant turn is trained"):
        parse_conversation({"messages": [USER, assistant(**{key: 0})]}, "1")


@pytest.mark.parametrize("blank", ["", "  ", "\u200b", "\n\u2060", [{"type": "text", "text": ""}], []])
def test_turns_that_nobody_sees_are_not_trained(blank: Any) -> None:
    with pytest.raises(BadRow, match="the last assistant turn is empty"):
        parse_conversation({"messages": [USER, assistant(blank)]}, "1")
    with pytest.raises(BadRow, match=r"the assistant turn messages\[1\] is empty"):
        parse_conversation({"messages": [USER, assistant(blank), USER, assistant()]}, "1")
    assert parse_conversation({"messages": [USER, assistant(blank, weight=0), USER, assistant()]}, "1")


def test_tools_are_lists_text_or_bare_functions() -> None:
    function = {"name": "f", "parameters": {"type": "object"}}
    tool = {"type": "function", "function": function}
    for spelled in ([tool], [function], '[{"name": "f", "parameters": {"type": "object"}}]', ['{"name": "f"}']):
        [read] = tool_list({"tools": spelled})
        assert read["function"]["name"] == "f"
    assert [tool_list({"tools": none}) for none in (None, [], "", "[]")] == [()] * 4
    for bad in ("{", {"name": "f"}, [3], [{"type": "function"}]):
        with pytest.raises(BadRow, match="tools"):
            tool_list({"tools": bad})


def test_responses_of_a_pair_may_call() -> None:
    row = {"prompt": "q", "chosen": [assistant("", tool_calls=[CALL])], "rejected": [assistant("no")]}
    pair = parse_pair(row, "1")
    assert pair.chosen == assistant("", tool_calls=[CALL])
    assert pair.rejected == "no"
    with pytest.raises(BadRow, match="key rejected is empty"):
        parse_pair({**row, "rejected": [assistant(" ")]}, "1")


def shown(*parts: dict) -> tuple:
    return message_list({"messages": [{"role": "user", "content": list(parts)}]})[0]["content"]


def test_parts_as_parquet_merges_them() -> None:
    """As `HuggingFaceH4/llava-instruct-mix-vsft` has them: each part has all keys, pictures say which they are."""
    rows = [
        {"role": "user", "content": [{"type": "image", "index": 0, "text": None}, {"type": "text", "text": "?"}]},
        {"role": "user", "content": [{"type": "image", "index": 1, "text": ""}, {"type": "video", "index": 0}]},
    ]
    first, second = message_list({"messages": rows})
    assert first["content"] == [{"type": "image"}, {"type": "text", "text": "?"}]
    assert second["content"] == [{"type": "image"}, {"type": "video"}]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([{"type": "image", "index": 1}], r"content\[0\] has index 1 and is image 0 of the row: put the row's images"),
        ([{"type": "image"}, {"type": "image", "index": 0}], r"content\[1\] has index 0 and is image 1"),
        ([{"type": "video", "fps": 1, "video": "a.mp4"}], "has video: its file belongs in the row's videos"),
        ([{"type": "image", "image": "a.png", "alt": "x"}], "has image: its file belongs in the row's images"),
        ([{"type": "video", "fps": 1}], "has fps: no model reads it: take it out"),
        ([{"type": "image", "text": "x"}], "has text: no model reads it"),
    ],
)
def test_keys_of_parts_that_are_refused(parts: list, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        shown(*parts)
