"""What a rank says of its files is what lies on disk, and what lies there is the state at the time of the copy."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pangu_rl.checkpoint.manifest import entries_of
from pangu_rl.checkpoint.rank_files import fill_folder, host_copy, write_files
from pangu_rl.errors import CheckpointError


def test_each_file_is_hashed_as_it_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    states = {"engine/weights.pt": {"w": torch.arange(50_000.0), "step": 3}, "learner.json": b'{"world_size": 2}'}
    entries = write_files(tmp_path, states).result()
    assert entries.keys() == states.keys()
    for name, entry in entries.items():
        content = (tmp_path / name).read_bytes()
        assert (entry.size, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert entries == entries_of(tmp_path, {})
    loaded = torch.load(tmp_path / "engine/weights.pt", weights_only=True)
    assert torch.equal(loaded["w"], torch.arange(50_000.0)) and loaded["step"] == 3
    assert (tmp_path / "learner.json").read_bytes() == b'{"world_size": 2}'


def test_steps_that_follow_do_not_reach_what_is_written(tmp_path: Path) -> None:
    """A parameter, an optimizer's own dict and a group's list are all changed right after the copy."""
    weight, moments, group = torch.ones(1000), {"step": 1, "exp_avg": torch.ones(1000)}, [0.5]
    state = {"w": weight, "optimizer": {"state": {0: moments}, "param_groups": [{"lr": group}]}}
    writing = write_files(tmp_path, {"state.pt": host_copy(state)})
    weight.zero_()
    moments["exp_avg"].zero_()
    moments["step"] = 2
    group[0] = 0.1
    writing.result()
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(loaded["w"], torch.ones(1000))
    assert loaded["optimizer"]["param_groups"] == [{"lr": [0.5]}]
    assert loaded["optimizer"]["state"][0]["step"] == 1
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], torch.ones(1000))


def test_tied_tensors_are_copied_once_and_views_without_the_rest() -> None:
    flat = torch.arange(100.0)
    first, second = flat[:60].view(6, 10), flat[60:]
    copies = host_copy({"embed": first, "head": first.detach(), "part": second, "turned": first.t()})
    assert copies["embed"] is copies["head"]
    assert copies["embed"].untyped_storage().nbytes() == 240 and copies["part"].untyped_storage().nbytes() == 160
    assert torch.equal(copies["part"], second) and torch.equal(copies["turned"], first.t())
    assert copies["embed"].data_ptr() != first.data_ptr()


def test_a_module_s_state_keeps_its_order_and_metadata() -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    copied = host_copy(state)
    assert isinstance(copied, OrderedDict) and list(copied) == ["weight", "bias"]
    assert copied._metadata == state._metadata
    assert torch.equal(copied["bias"], state["bias"]) and copied["bias"] is not state["bias"]


@pytest.mark.parametrize("elements", [10, 3_000_000])
def test_a_full_disk_is_one_line(tmp_path: Path, elements: int) -> None:
    """/dev/full answers as a full disk does; the small file fails at its flush, the large one on its way."""
    (tmp_path / "full.pt").symlink_to("/dev/full")
    writing = write_files(tmp_path, {"full.pt": {"w": torch.zeros(elements)}})
    with pytest.raises(CheckpointError, match=r"full\.pt: No space left on device \([\d,]+ bytes free\); make room"):
        writing.result()


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone/w\.pt: No such file or directory"):
        write_files(tmp_path / "gone", {"w.pt": torch.zeros(3)}).result()


def test_a_folder_that_is_filled_is_hashed_and_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Also by the safetensors library, whose error is its own."""
    tensors = {"w": torch.zeros(100)}
    entries = fill_folder(tmp_path, lambda: save_file(tensors, tmp_path / "model.safetensors")).result()
    assert entries == entries_of(tmp_path, {}) and entries.keys() == {"model.safetensors"}

    def fail() -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(CheckpointError, match=r"No space left on device \(os error 28\) \([\d,]+ bytes free\)"):
        fill_folder(tmp_path, fail).result()
