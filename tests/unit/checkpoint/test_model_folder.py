"""Which files of a folder are the model's weights: learner and engine must read the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.checkpoint.model_folder import model_checksum, model_config, weight_files
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
    ],
)
def test_folders_that_learner_and_engine_would_read_differently(
    tmp_path: Path, names: tuple[str, ...], index: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        model_config(folder_of(tmp_path, *names, index=index))


def test_one_file_is_the_model_whatever_its_name(tmp_path: Path) -> None:
    assert len(weight_files(folder_of(tmp_path, "weights.safetensors"))) == 1
