"""A row of each foreign format, as its project documents it, becomes ours, and its format is told by the row itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from pangu_rl.data import load_conversations, load_prompts
from pangu_rl.data.formats import FORMATS
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.pairs import load_pairs
from pangu_rl.errors import DataError

LOADERS = {"conversation": load_conversations, "pair": load_pairs, "prompt": load_prompts}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict:
    return {"role": "assistant", "content": text, **more}


def call(name: str, **arguments: Any) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
TURNS = [user("1 + 1?"), assistant("2")]
CALLED = [
    user("1 + 1?"),
    assistant("", tool_calls=[call("add", a=1)]),
    {"role": "tool", "content": "2"},
    assistant("2"),
]
SHAREGPT_CALLED = [
    {"from": "human", "value": "1 + 1?"},
    {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
    {"from": "observation", "value": "2"},
    {"from": "gpt", "value": "2"},
]
SWIFT_CALLED = [
    user("1 + 1?"),
    {"role": "tool_call", "content": '{"name": "add", "arguments": {"a": 1}}'},
    {"role": "tool_response", "content": "2"},
    assistant("2"),
]

CONVERSATIONS = {
    "trl text": ("trl", {"prompt": "1 + 1?", "completion": "2"}, TURNS),
    "trl messages": ("trl", {"prompt": TURNS[:1], "completion": TURNS[1:], "tools": [TOOL]}, TURNS),
    "sharegpt": (
        "sharegpt",
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
        [SYSTEM, *TURNS],
    ),
    "sharegpt with tools": ("sharegpt", {"conversations": SHAREGPT_CALLED, "tools": json.dumps([TOOL])}, CALLED),
    "sharegpt weights": (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "?"},
                {"from": "gpt", "value": "no", "weight": 0},
                {"from": "human", "value": "1 + 1?"},
                {"from": "gpt", "value": "2", "weight": 1},
            ]
        },
        [user("?"), assistant("no", train=False), *TURNS],
    ),
    "alpaca": (
        "alpaca",
        {"instruction": "Add.", "input": "1 + 1", "output": "2"},
        [user("Add.\n1 + 1"), assistant("2")],
    ),
    "alpaca history": (
        "alpaca",
        {"instruction": "1 + 1?", "output": "2", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        [SYSTEM, user("Hi"), assistant("Hello"), *TURNS],
    ),
    "ms-swift": ("ms_swift", {"messages": SWIFT_CALLED, "tools": json.dumps([TOOL])}, CALLED),
    "ms-swift query": ("ms_swift", {"query": "1 + 1?", "response": "2", "history": []}, TURNS),
    "openai functions": (
        "openai",
        {
            "messages": [
                user("1 + 1?"),
                {"role": "assistant", "function_call": {"name": "add", "arguments": '{"a": 1}'}},
                {"role": "function", "name": "add", "content": "2"},
                assistant("2", weight=1),
            ],
            "functions": [TOOL["function"]],
        },
        [*CALLED[:2], {"role": "tool", "name": "add", "content": "2"}, CALLED[3]],
    ),
}
PAIRS = {
    "trl explicit": ("trl", {"prompt": TURNS[:1], "chosen": [assistant("2")], "rejected": [assistant("3")]}),
    "trl implicit": ("trl", {"chosen": [*TURNS[:1], assistant("2")], "rejected": [*TURNS[:1], assistant("3")]}),
    **{
        f"trl both {name}": (
            "trl",
            {"prompt": prompt, "chosen": [*TURNS[:1], assistant("2")], "rejected": [*TURNS[:1], assistant("3")]},
        )
        for name, prompt in {"text": "1 + 1? ", "messages": TURNS[:1], "empty": ""}.items()
    },
    "sharegpt": (
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": "1 + 1?"}],
            "chosen": {"from": "gpt", "value": "2"},
            "rejected": {"from": "gpt", "value": "3"},
        },
    ),
    "alpaca": ("alpaca", {"instruction": "1 + 1?", "input": "", "chosen": "2", "rejected": "3"}),
    "ms-swift": ("ms_swift", {"messages": TURNS, "rejected_response": "3"}),
    "openai": (
        "openai",
        {
            "input": {"messages": TURNS[:1], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant("2")],
            "non_preferred_output": [assistant("3")],
        },
    ),
}
PROMPTS = {
    "verl": (
        "verl",
        {
            "data_source": "openai/gsm8k",
            "prompt": TURNS[:1],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"split": "train", "index": 0},
        },
    ),
    "verl-text": ("verl", {"prompt": TURNS[0]["content"], "reward_model": {"ground_truth": ["2"]}}),
    "easyr1": ("easyr1", {"problem": "1 + 1?", "answer": "2"}),
    "ms-swift": ("ms_swift", {"messages": TURNS[:1], "solution": "2"}),
}


def jsonl(folder: Path, *rows: dict) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "row", "messages"), CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("told", [True, False])
def test_conversations(tmp_path: Path, name: str, row: dict, messages: list, told: bool) -> None:
    loaded = load_conversations(jsonl(tmp_path, row), reading=Reading(format=name if told else "auto"))
    assert list(loaded.records[0].messages) == messages
    assert loaded.records[0].tools == ((TOOL,) if row.get("tools") or row.get("functions") else ())
    assert loaded.notes == [f"set.jsonl: its rows are read as {name}"]


@pytest.mark.parametrize(("name", "row"), PAIRS.values(), ids=PAIRS)
def test_pairs(tmp_path: Path, name: str, row: dict) -> None:
    loaded = load_pairs(jsonl(tmp_path, row))
    [pair] = loaded.records
    assert (list(pair.messages), pair.chosen, pair.rejected) == (TURNS[:1], "2", "3")
    assert loaded.notes == [f"set.jsonl: its rows are read as {name}"]


@pytest.mark.parametrize(("name", "row"), PROMPTS.values(), ids=PROMPTS)
def test_prompts(tmp_path: Path, name: str, row: dict) -> None:
    """Through Parquet, as they come."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "set.parquet")
    loaded = load_prompts(tmp_path / "set.parquet")
    [prompt] = loaded.records
    assert (list(prompt.messages), prompt.answer) == (TURNS[:1], "2")
    assert loaded.notes == [f"set.parquet: its rows are read as {name}"]
    if "ability" in row:
        assert (prompt.source, prompt.extra["ability"], prompt.extra["extra_info"]["index"]) == (
            "openai/gsm8k",
            "math",
            0,
        )


def test_a_gold_of_verl_beside_another_answer_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "1 + 1?", "answer": "3", "reward_model": {"ground_truth": "2"}}
    with pytest.raises(DataError, match="key answer stands beside those that verl makes it from"):
        load_prompts(jsonl(tmp_path, row))


def test_pictures_of_each_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    address = "data:image/png;base64,aGk="
    parts = [{"type": "text", "text": "1 + 1?"}, {"type": "image_url", "image_url": {"url": address}}]
    rows = {
        "openai": {"messages": [user(parts), assistant("2")]},  # type: ignore[arg-type]
        "sharegpt": {
            "conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "2"}],
            "image": "a.png",
        },
        "ms_swift": {"query": "<image>?", "response": "2", "images": "a.png"},
        "trl": {"prompt": "?", "completion": "2", "image": "a.png"},
    }
    for name, row in rows.items():
        [conversation] = load_conversations(jsonl(tmp_path, row)).records
        assert [image.split(":")[0] for image in conversation.images] == ["embedded" if name == "openai" else "a.png"]
    shown = load_conversations(jsonl(tmp_path, rows["openai"])).records[0].messages[0]["content"]
    assert shown == [{"type": "text", "text": "1 + 1?"}, {"type": "image"}]
    embedded = {**PROMPTS["easyr1"][1], "problem": "<image>?", "images": [{"bytes": b"hi", "path": None}]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([embedded]), tmp_path / "set.parquet")
    assert load_prompts(tmp_path / "set.parquet").records[0].images[0].startswith("embedded:")


def test_formats_name_videos(tmp_path: Path) -> None:
    marked, parts = "<video>?", [{"type": "video"}, {"type": "text", "text": "?"}]
    rows = {
        "sharegpt": {
            "conversations": [{"from": "human", "value": marked}, {"from": "gpt", "value": "2"}],
            "video": "v.mp4",
        },
        "ms_swift": {"query": marked, "response": "2", "videos": "v.mp4"},
        "alpaca": {"instruction": marked, "output": "2", "videos": ["v.mp4"]},
    }
    for row in rows.values():
        [conversation] = load_conversations(jsonl(tmp_path, row)).records
        assert conversation.videos == ("v.mp4",) and conversation.messages[0]["content"] == parts
    prompts = {
        "verl": {**PROMPTS["verl"][1], "prompt": [user(marked)], "videos": [{"video": "v.mp4"}]},
        "easyr1": {**PROMPTS["easyr1"][1], "problem": marked, "videos": ["v.mp4"]},
    }
    for row in prompts.values():
        [prompt] = load_prompts(jsonl(tmp_path, {key: value for key, value in row.items() if key != "images"})).records
        assert prompt.videos == ("v.mp4",) and prompt.messages[0]["content"] == parts


def test_calls_of_one_turn_in_parquet_keep_their_own_arguments(tmp_path: Path) -> None:
    """Arrow makes one struct of both calls' arguments; what a call did not have is not trained as null."""
    messages = [user("?"), assistant("", tool_calls=[call("f", q="x"), call("g", n=2)])]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"messages": messages}]), tmp_path / "set.parquet")
    assert list(load_conversations(tmp_path / "set.parquet").records[0].messages) == messages


def test_a_saved_datasets_folder_with_image_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes count, not the decoded picture, which has no file."""
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "response": datasets.Value("string"), "images": [datasets.Image()]}
    )
    rows = {"prompt": ["?"], "response": ["2"], "images": [[{"bytes": b"a picture", "path": "0.png"}]]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    [row] = load_conversations(tmp_path / "saved").records
    assert row.images[0].startswith("embedded:")
    assert row.images[0].endswith("/0.png")


INFO = {
    "as_alpaca": {"file_name": "rows.json", "columns": {"prompt": "q", "response": "a"}},
    "as_sharegpt": {
        "file_name": "turns.json",
        "formatting": "sharegpt",
        "columns": {"messages": "dialogue"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "it"},
    },
    "elsewhere": {"hf_hub_url": "a/b"},
}


def test_llama_factorys_dataset_info_names_file_and_columns(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text(json.dumps(INFO))
    (tmp_path / "rows.json").write_text(json.dumps([{"q": "1 + 1?", "a": "2"}]))
    dialogue = [{"who": "me", "what": "1 + 1?"}, {"who": "it", "what": "2"}]
    (tmp_path / "turns.json").write_text(json.dumps([{"dialogue": dialogue}]))
    for name in ("as_alpaca", "as_sharegpt"):
        [row] = load_conversations(tmp_path / f"dataset_info.json#{name}").records
        assert list(row.messages) == TURNS
    with pytest.raises(DataError, match="describes no 'other'; it has as_alpaca"):
        load_conversations(tmp_path / "dataset_info.json#other")
    with pytest.raises(DataError, match="key hf_hub_url is not read"):
        load_conversations(tmp_path / "dataset_info.json#elsewhere")


@pytest.mark.parametrize(
    ("load", "row", "reason"),
    [
        (load_pairs, {"prompt": "?", "completion": "2", "label": True}, "unpaired preferences are not trained"),
        (load_pairs, {"chosen": [assistant("2")], "rejected": [assistant("3")]}, "key prompt is missing"),
        (load_conversations, {"completion": "2"}, "key prompt is missing"),
        (
            load_conversations,
            {"prompt": "?", "completion": "2", "image": "a.png", "images": ["b.png"]},
            "both image and images",
        ),
        (
            load_conversations,
            {"conversations": SHAREGPT_CALLED, "video": "a.mp4", "videos": ["b.mp4"]},
            "both video and videos",
        ),
        (load_conversations, PROMPTS["verl"][1], "verl's rows are prompts of RL"),
        (load_conversations, {"conversations": [{"from": "robot", "value": "x"}]}, "is from 'robot': one of human"),
        (load_conversations, {"conversations": SHAREGPT_CALLED, "audios": ["v.mp3"]}, "key audios looks like media"),
        (load_conversations, {"query": "?", "response": "2", "objects": {"bbox": ["a.png"]}}, "key objects looks like"),
        *(
            (
                load_conversations,
                {"query": "find <ref-object>", "response": answer, "objects": {"ref": ["it"], "bbox": [[1, 2, 3, 4]]}},
                f"key objects holds what {held} in the text stand for, and it is not put in",
            )
            for answer, held in (("<bbox>", "<bbox> and <ref-object>"), ("there", "<ref-object>"))
        ),
        (load_conversations, {"instruction": "a", "output": "b", "history": ["x"]}, "key history is no list of"),
        (load_conversations, {"system": "a", "query": "?", "response": "2", "messages": []}, "key system looks like"),
    ],
)
def test_what_a_format_has_and_we_do_not_train_is_refused(tmp_path: Path, load: Any, row: dict, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load(jsonl(tmp_path, row))


def test_our_own_rows_are_nobody_elses(tmp_path: Path) -> None:
    """Also with columns that are signs of other formats for rows without ours."""
    rows = [
        {"messages": TURNS, "solution": "x"},
        {"prompt": "1 + 1?", "response": "2", "completion_time": 3},
        {"messages": [user([{"type": "text", "text": "1 + 1?"}]), assistant("2")]},  # type: ignore[arg-type]
    ]
    for row in rows:
        assert not any("read as" in note for note in load_conversations(jsonl(tmp_path, row)).notes)


def test_names_of_the_configuration_are_those_of_the_formats() -> None:
    from pangu_rl.config.sections.rows import RowsConfig

    names = RowsConfig.model_fields["format"].annotation.__args__
    assert set(names) == {"auto", "pangu", *(one.name for one in FORMATS)}
