"""Which files of a folder are the model's weights: learner and engine must read the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.checkpoint.model_folder import end_of_sequence, model_checksum, model_config, weight_files
from pangu_rl.errors import DataError

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def folder_of(folder: Path, *names: str, index: tuple[str, ...] = ()) -> Path:
    (folder / "config.json").write_text("{}")
    for name in names:
        (folder / name).write_bytes(name.encode())
    if index:
        tree = {"weight_map": {f"tensor.{number}": name for number, name in enumerate(index)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(tree))
    return folder


def test_the_index_decides_and_strays_change_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, *SHARDS, index=SHARDS)
    before = model_checksum(folder)
    for stray in ("consolidated.safetensors", "model-00003-of-00003.safetensors", "adapter_model.safetensors"):
        (folder / stray).write_bytes(b"x")
    assert [file.name for file in weight_files(folder)] == list(SHARDS)
    assert model_checksum(folder) == before


@pytest.mark.parametrize(
    ("names", "index", "reason"),
    [
        (
            ("model.safetensors", "consolidated.safetensors"),
            (),
            "consolidated.safetensors stands beside",
        ),
        (("model.safetensors", *SHARDS), SHARDS, "model.safetensors stands beside"),
        (SHARDS[:1], SHARDS, "model-00002-of-00002.safetensors is missing"),
        ((), (), "no weights"),
        (SHARDS, ("../elsewhere.safetensors",), "leaves the folder"),
        (SHARDS, (), "without model.safetensors.index.json: copy the whole folder"),
        (SHARDS[:1], (1,), "names the shard 1, which is no name of a file"),
        (("model.fp16.safetensors",), (), "weights are model.fp16.safetensors, and model.safetensors is looked for"),
        (("consolidated.safetensors",), (), "rename it, if it is the whole model"),
        (("pytorch_model.bin",), (), "weights are pytorch_model.bin, and pickles are not read: convert the folder"),
    ],
)
def test_folders_that_learner_and_engine_would_read_differently(
    tmp_path: Path, names: tuple[str, ...], index: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        model_config(folder_of(tmp_path, *names, index=index))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", "[]", r"holds \[\]: it is to be keys with values"),
        ("config.json", "null", "holds null: it is to be keys with values"),
        ("config.json", "{", "is not JSON: .*: copy the whole folder again"),
        ("config.json", "\ufeff{}", "is not JSON: .*: save it without a byte order mark"),
        ("config.json", '{"text_config": "x"}', "text_config is 'x': it is to be keys with values"),
        ("config.json", '{"eos_token_id": true}', "eos_token_id is True"),
        ("generation_config.json", "null", "holds null: it is to be keys with values"),
        ("generation_config.json", "[]", r"holds \[\]: it is to be keys with values"),
        ("model.safetensors.index.json", "[]", r"holds \[\]: it is to be keys with values"),
        ("model.safetensors.index.json", '{"weight_map": ["a"]}', "no index of safetensors shards"),
    ],
)
def test_files_that_hold_something_else_are_told_with_the_way_out(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    folder = folder_of(tmp_path, "model.safetensors")
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}:? {reason}|{reason}") as caught:
        end_of_sequence(folder)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ["text_config", "llm_config"])
def test_the_end_of_a_language_models_own_section(tmp_path: Path, section: str) -> None:
    folder = folder_of(tmp_path, "model.safetensors")
    (folder / "config.json").write_text(json.dumps({section: {"eos_token_id": [7, 8]}}))
    assert end_of_sequence(folder) == (7, 8)
