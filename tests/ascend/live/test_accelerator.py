"""Part b: the accelerator's record against the real torch-npu."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from pangu_rl.accelerators import get_accelerator
from pangu_rl.accelerators.collective import build_group, free_port

NPU = get_accelerator("npu")


def test_the_device_is_found_and_named() -> None:
    assert get_accelerator().name == "npu"
    assert torch.device(NPU.device(1)).index == 1


def test_without_a_device_there_is_none() -> None:
    code = "from pangu_rl.accelerators import get_accelerator; assert get_accelerator().name != 'npu'"
    env = os.environ | {"STUB_NPU_COUNT": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_the_record_asks_of_the_device_is_there() -> None:
    NPU.set_device(1)
    assert NPU.module().current_device() == 1
    NPU.set_device(0)
    NPU.synchronize()
    NPU.empty_cache()
    stats = NPU.memory_stats()
    assert stats.keys() == {"allocated", "reserved", "peak", "free", "total"} and stats["total"] == 64 << 30


def test_the_profiler_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where it leaves a file when it ends
    profiler = NPU.profiler()
    assert callable(profiler.export_chrome_trace)
    del profiler
    gc.collect()


def test_hccl_is_the_devices_backend() -> None:
    assert dist.Backend.default_device_backend_map["npu"] == NPU.dist_backend


def test_the_group_of_the_weights_is_made_by_hccl() -> None:
    assert build_group(NPU.dist_backend, "127.0.0.1", free_port(), 0, 1).size() == 1
