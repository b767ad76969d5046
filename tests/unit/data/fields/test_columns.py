"""A column that is not used is refused by name if it looks like something to train on, and is told otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.data import load_conversations, load_prompts
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.fields.columns import Columns, unused
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.pairs import load_pairs
from pangu_rl.errors import DataError

ROW = {"prompt": "p", "response": "r"}


def jsonl(folder: Path, *rows: dict) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "a.png"),
        ("image", ["a.png"]),
        ("image", {"path": "a.png"}),
        ("image_path", "a"),
        ("imageUrl", "x"),
        ("picture_0", "x"),
        ("pixel_values", [[0]]),
        ("video", "x.mp4"),
        ("video_path", ["x"]),
        ("frames", ["0.png", "1.png"]),
        ("audio", {"array": [0]}),
        ("functions", [{"name": "f"}]),
        ("available_tools", "[]x"),
        ("system", "Be brief."),
        ("system_prompt", "Be brief."),
        ("history", [["a", "b"]]),
        ("reasoning_content", "because"),
        ("weight", 0.5),
        ("left", "folder/a.JPG"),
        ("anything", {"bytes": b"x"}),
        ("anything", [{"file": "b.webp"}]),
        ("anything", "data:image/png;base64,AAAA"),
        ("anything", b"x"),
        ("left", "my photo.jpg"),
        ("left", "a.HEIC"),
        ("left", "https://x/a.jpg?w=1"),
        ("cot", "x"),
        ("Complex_CoT", "First, add."),
        ("chain_of_thought", "First, add."),
        ("deepseek_reasoning", "First, add."),
        ("think", "x"),
        ("context", "The text."),
        ("passages", ["The text."]),
    ],
)
@pytest.mark.parametrize("kind", ["conversation", "pair", "prompt", "query", "document"])
def test_what_looks_like_training_data_is_refused_by_name(name: str, value: Any, kind: Any) -> None:
    with pytest.raises(BadRow, match=f"key {name} looks like media, tools or text"):
        unused({name: value}, kind)
    assert unused({name: value}, kind, {name}) == []
    assert unused({name: None}, kind) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", [640, 480]),
        ("num_images", 2),
        ("video_id", "a1"),
        ("difficulty", 3),
        ("url", "https://example.org/page"),
        ("choices", ["a", "b"]),
        ("created", "2024-01-01"),
        ("tools", []),
        ("reasoning_effort", "high"),
        ("context_length", 4096),
        ("is_reasoning_complete", [True]),
        ("link", "https://example.org/paper.pdf?page=2"),
    ],
)
def test_what_looks_harmless_is_told(name: str, value: Any) -> None:
    assert unused({name: value}, "prompt") == ([] if value == [] else [name])


@pytest.mark.parametrize(
    ("kind", "name", "more", "column"),
    [
        ("conversation", "picture", {}, "images"),
        ("conversation", "image_path", {"images": ["b.png"]}, None),
        ("pair", "rejected_images", {}, None),
        ("conversation", "video_path", {}, "videos"),
        ("prompt", "functions", {}, "tools"),
        ("prompt", "instruction", {"answer": "1"}, "prompt"),
        ("prompt", "instruction", {"prompt": "p"}, None),
        *(
            ("conversation", name, {}, None)
            for name in ("reasoning_content", "thoughts", "audios", "system", "history")
        ),
    ],
)
def test_a_mapping_is_offered_only_to_a_column_of_the_same_kind(name: str, kind: Any, more: dict, column: str) -> None:
    with pytest.raises(BadRow) as refusal:
        unused({name: ["a.png"], **more}, kind)
    way = f"map it, such as data.columns.{name}={column}," if column else "make it part of a column that is used,"
    assert f"is not used: {way} or name it in data.pass_through" in str(refusal.value)


def test_sizes_of_videos_are_numbers_and_known() -> None:
    assert unused({"frames": [8, 16], "duration": 3.5}, "conversation") == []


def test_what_a_curation_notes_is_known() -> None:
    assert unused({"curation": {"language": "en"}}, "conversation") == []


def test_unused_columns_are_told_once_per_file(tmp_path: Path) -> None:
    rows = [{**ROW, "difficulty": 1}, {**ROW, "difficulty": 2, "lang": "en"}]
    assert load_conversations(jsonl(tmp_path, *rows)).notes == [
        "set.jsonl: columns that are not used: difficulty, lang"
    ]


def test_every_kind_of_row_has_the_list(tmp_path: Path) -> None:
    rows = {
        load_conversations: ROW,
        load_prompts: {"prompt": "p", "answer": "1"},
        load_pairs: {"prompt": "p", "chosen": "a", "rejected": "b"},
    }
    for load, row in rows.items():
        with pytest.raises(DataError, match=r"set\.jsonl, row 1: key picture looks like"):
            load(jsonl(tmp_path, {**row, "picture": "a.png"}))


def test_columns_are_mapped_and_passed_over_by_configuration(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"question": "p", "answer": 1, "picture": "a.png", "video": "v.mp4"})
    renamed = Columns({"question": "prompt", "picture": "images"}, frozenset({"video"}))
    [prompt] = load_prompts(path, reading=Reading(columns=renamed)).records
    assert (prompt.messages[0]["content"], prompt.images, prompt.extra) == ("p", ("a.png",), {"video": "v.mp4"})
    both = jsonl(tmp_path, {"prompt": "p", "question": "q", "answer": "1"})
    with pytest.raises(DataError, match="has both question and prompt"):
        load_prompts(both, reading=Reading(columns=Columns({"question": "prompt"})))


def test_a_null_beside_a_mapped_column_loses_neither() -> None:
    """Parquet gives every row every column, so that each of the two may come first."""
    mapped = Columns({"picture": "images"})
    for row in ({"picture": "a.jpg", "images": None}, {"images": None, "picture": "a.jpg"}):
        assert mapped.applied(row) == {"images": ["a.jpg"]}
    for row in ({"picture": None, "images": ["a.jpg"]}, {"images": ["a.jpg"], "picture": None}):
        assert mapped.applied(row) == {"images": ["a.jpg"]}
    assert mapped.applied({"picture": None}) == {"images": None}


def test_columns_may_change_their_names() -> None:
    swapped = Columns({"question": "prompt", "prompt": "system"})
    assert swapped.applied({"prompt": "Be brief.", "question": "p"}) == {"system": "Be brief.", "prompt": "p"}


def test_two_columns_under_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="left and right are both mapped to images"):
        RowsConfig(columns={"left": "images", "right": "images"})


def test_keys_of_messages_are_passed_over_wherever_messages_stand(tmp_path: Path) -> None:
    said = {
        role: {"role": role, "content": text, "emotion": "calm"} for role, text in (("user", "p"), ("assistant", "r"))
    }
    asked, answered = [said["user"]], [said["assistant"]]
    worse = [{**said["assistant"], "content": "s"}]
    turns = [{"from": "human", "value": "p", "emotion": 1}, {"from": "gpt", "value": "r"}]
    rows = [
        (load_conversations, {"messages": asked + answered}),
        (load_conversations, {"prompt": asked, "response": "r"}),
        (load_conversations, {"prompt": asked, "completion": answered}),
        (load_conversations, {"conversations": turns}),
        (load_prompts, {"prompt": asked, "answer": "1"}),
        (load_pairs, {"prompt": asked, "chosen": answered, "rejected": worse}),
        (load_pairs, {"chosen": asked + answered, "rejected": asked + worse}),
        (
            load_pairs,
            {
                "conversations": turns[:1],
                "chosen": {**turns[1], "emotion": 1},
                "rejected": {"from": "gpt", "value": "s"},
            },
        ),
        (
            load_pairs,
            {"input": {"messages": asked}, "preferred_output": answered, "non_preferred_output": worse},
        ),
    ]
    passing = Reading(columns=Columns(passed=frozenset({"emotion"})))
    for load, row in rows:
        path = jsonl(tmp_path, row)
        with pytest.raises(DataError, match="has a key emotion"):
            load(path)
        assert load(path, reading=passing).records[0].messages[0] == {"role": "user", "content": "p"}


def test_messages_and_a_prompt_that_says_something_else(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]
    assert load_conversations(jsonl(tmp_path, {"messages": messages, "prompt": "p"})).records
    for other in ({"prompt": "q"}, {"response": "s"}):
        with pytest.raises(DataError, match="has messages and a"):
            load_conversations(jsonl(tmp_path, {"messages": messages, **other}))


def test_keys_that_fit_no_format_are_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its keys are body, solution; a conversation has .*nearest is ms_swift"):
        load_conversations(jsonl(tmp_path, {"body": "x", "solution": "y"}))
    with pytest.raises(DataError, match="is mesages meant as messages"):
        load_conversations(jsonl(tmp_path, {"mesages": []}))


def test_a_file_may_be_a_json_array_or_begin_with_a_mark(tmp_path: Path) -> None:
    array = tmp_path / "rows.json"
    array.write_text("\ufeff" + json.dumps([ROW, {**ROW, "prompt": "q"}], indent=1), encoding="utf-8")
    assert [row.uid for row in load_conversations(array).records] == ["rows:1", "rows:2"]
    marked = tmp_path / "marked.jsonl"
    marked.write_text("\ufeff" + json.dumps(ROW) + "\n" + json.dumps(ROW), encoding="utf-8")
    assert len(load_conversations(marked).records) == 2
    array.write_text("[{}")
    with pytest.raises(DataError, match="begins as a JSON array and is none"):
        load_conversations(array)
