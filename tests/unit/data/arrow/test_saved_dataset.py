"""A folder that `datasets` saved is read as it lies there: nothing outside of it, nothing fetched, nothing decoded."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from PIL import Image

from pangu_rl.data import load_prompts
from pangu_rl.errors import DataError
from pretrain.processing.media_root import open_inside
from pretrain.processing.pictures import picture_size

ROWS = [{"id": str(index), "prompt": f"{index} + 1?", "answer": str(index + 1)} for index in range(5)]

NO_FILE = '{"_data_files": [{"filename": "no.arrow"}]}'
PICTURES = datasets.Features(
    {"prompt": datasets.Value("string"), "answer": datasets.Value("string"), "images": [datasets.Image()]}
)


def saved(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    return folder


def written(folder: Path, rows: list[dict], features: datasets.Features) -> Path:
    """As `datasets` saves them, which itself looks at the files and addresses that rows name."""
    folder.mkdir()
    table = pa.Table.from_pylist(rows, features.arrow_schema)
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features.to_dict()}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "rows.arrow"}]}))
    return folder


def renamed(folder: Path, name: str) -> Path:
    """The folder with another name of its only file in `state.json`."""
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": name}]
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def test_files_are_read_in_the_order_of_the_list(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=3)
    assert [prompt.uid for prompt in load_prompts(tmp_path / "saved").records] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["../outside/data-00000-of-00001.arrow", "{absolute}", "link.arrow", "..", ""])
def test_files_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    outside = saved(tmp_path / "outside") / "data-00000-of-00001.arrow"
    folder = renamed(saved(tmp_path / "saved"), name.format(absolute=outside))
    (folder / "link.arrow").symlink_to(outside)
    with pytest.raises(DataError, match=r"state\.json: names the file .* does not lie in the folder"):
        load_prompts(folder)


@pytest.mark.parametrize(
    "state", ["[", "{}", '{"_data_files": 3}', "[]", '{"_data_files": [{"filename": "no.arrow"}]}']
)
def test_a_state_that_is_none_is_told_in_one_line(tmp_path: Path, state: str) -> None:
    folder = saved(tmp_path / "saved")
    (folder / "state.json").write_text(state)
    with pytest.raises(DataError) as refusal:
        load_prompts(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    file = saved(tmp_path / "saved") / "data-00000-of-00001.arrow"
    file.write_bytes(b"\xff" * 64 + file.read_bytes()[64:])
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow: not a file of `datasets` that can be read") as e:
        load_prompts(tmp_path / "saved")
    assert "\n" not in str(e.value)


def test_addresses_of_pictures_are_not_fetched(tmp_path: Path) -> None:
    """Neither when the rows are read nor when the picture is named; the row has no use for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/picture.png"
        rows = [{"prompt": "?", "answer": "1", "images": [{"bytes": None, "path": address}]}]
        [prompt] = load_prompts(written(tmp_path / "saved", rows, PICTURES)).records
        assert prompt.images == (address,)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_picture_bomb_stays_as_it_is_written(tmp_path: Path) -> None:
    """12,000 x 12,000 pixels, 432 MB when decoded, in less than a megabyte."""
    bomb = io.BytesIO()
    Image.new("RGB", (12_000, 12_000)).save(bomb, "PNG")
    rows = [{"prompt": "?", "answer": "1", "images": [{"bytes": bomb.getvalue(), "path": None}]}]
    [prompt] = load_prompts(written(tmp_path / "saved", rows, PICTURES)).records
    with open_inside(prompt.images[0], tmp_path) as kept:
        assert kept.read() == bomb.getvalue()
    with pytest.raises(DataError, match="12000 x 12000 pixels, the limit is"):
        picture_size(prompt.images[0], tmp_path)
