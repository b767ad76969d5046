"""The table of devices: what Ray is asked for, which index a process gets, which environment a role sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pangu_rl.accelerators import ACCELERATORS, get_accelerator
from pangu_rl.accelerators.cpu import ENGINE_MEMORY, LEARNER_MEMORY
from pangu_rl.errors import ConfigError

CPU, CUDA, NPU = (get_accelerator(name) for name in ("cpu", "cuda", "npu"))


def test_an_unknown_device_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'tpu': one of auto, npu, cuda, cpu"):
        get_accelerator("tpu")


def test_detection_takes_the_first_that_works(monkeypatch):
    assert list(ACCELERATORS) == ["npu", "cuda", "cpu"]
    if not torch.cuda.is_available():
        assert get_accelerator().name == "cpu"
    working = dict.fromkeys(ACCELERATORS, False) | {"cuda": True, "cpu": True}
    monkeypatch.setattr(type(CPU), "detect", property(lambda self: lambda: working[self.name]))
    assert get_accelerator("auto").name == "cuda"
    working["npu"] = True
    assert get_accelerator("auto").name == "npu"


def test_a_torch_npu_that_cannot_be_imported_is_no_device(tmp_path):
    """Without CANN the wheel's import fails with whatever its loader raises."""
    (tmp_path / "torch_npu.py").write_text("raise RuntimeError('libhccl.so: cannot open shared object file')")
    installed = tmp_path / "torch_npu-2.10.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: torch_npu\nVersion: 2.10.0\n")
    (installed / "entry_points.txt").write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from pangu_rl.accelerators import get_accelerator\nassert get_accelerator().name != 'npu'\nimport torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch_npu is installed and does not import" in done.stderr


def test_what_ray_is_asked_for():
    assert CPU.ray_options(2) == {"num_cpus": 0}
    assert CUDA.ray_options(2) == {"num_cpus": 0, "num_gpus": 2}
    assert NPU.ray_options(2) == {"num_cpus": 0, "resources": {"NPU": 2}}


@pytest.mark.parametrize(
    ("ids", "env", "index"),
    [
        (["5"], {"ASCEND_RT_VISIBLE_DEVICES": "5"}, 0),  # Ray narrowed the process to its device
        (["5"], {"RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1"}, 5),  # all devices, none hidden
        (
            ["6"],
            {"RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1", "ASCEND_RT_VISIBLE_DEVICES": "4, 5,6,7"},
            2,
        ),
        (["5"], {"RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "0"}, 0),
        ([], {"RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1"}, 0),
    ],
)
def test_local_index(ids, env, index):
    assert NPU.local_index(ids, env) == index


NOSET = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("ids", "env", "own"),
    [
        (["5"], {}, {}),  # Ray narrows
        (["5", "6"], {NOSET: "1"}, {"ASCEND_RT_VISIBLE_DEVICES": "5,6"}),
        (["6"], {NOSET: "1", "ASCEND_RT_VISIBLE_DEVICES": "4,5,6,7"}, {"ASCEND_RT_VISIBLE_DEVICES": "6"}),
        ([], {NOSET: "1", "ASCEND_RT_VISIBLE_DEVICES": "4"}, {}),  # an engine on the bundle of a rank
    ],
)
def test_an_engine_sees_its_own_devices_alone(ids, env, own):
    assert NPU.own_devices(ids, env) == own


def test_local_index_of_a_machine_without_devices():
    assert CPU.local_index([], {}) == 0


def test_device_names():
    assert (CPU.device(3), CUDA.device(3), NPU.device()) == ("cpu", "cuda:3", "npu:0")


def test_cpu_environments():
    spin = {"GOMP_SPINCOUNT": "10000"}
    assert CPU.train_env(2) == {"OMP_NUM_THREADS": "2", "DS_ACCELERATOR": "cpu"} | spin | LEARNER_MEMORY
    engine = {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    assert CPU.rollout_env(1) == engine | spin | ENGINE_MEMORY


def test_a_users_own_settings_of_the_heap_win_on_a_cpu():
    own = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    for env, memory in ((CPU.train_env(1, own), LEARNER_MEMORY), (CPU.rollout_env(1, own), ENGINE_MEMORY)):
        assert {name: env[name] for name in memory} == memory | own


FREED = """
import resource, threading, torch
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def again():
    make = lambda: [torch.ones({values}) for _ in range({count})]
    for _ in range(3): make()
    before = faults()
    for _ in range(10): make()
    print(faults() - before)
thread = threading.Thread(target=again); thread.start(); thread.join()
"""
"""Tensors made and freed again and again by another thread than the main one, as in an actor."""


@pytest.mark.parametrize(("count", "values"), [(4, 3 << 20), (1, 24 << 20), (200, 1 << 18)])
def test_a_learner_on_a_cpu_keeps_what_it_freed(count, values):
    """48, 96 and 200 MiB, as much as they hold in pages of 4 KiB, or of 2 MiB, when each comes anew."""
    code = FREED.format(count=count, values=values)
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | CPU.train_env(1), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200  # 240 to 1,000 of 2 MiB, 120,000 and more of 4 KiB


def test_an_engine_on_a_cpu_keeps_small_tensors_and_gives_back_large_ones():
    """Four tensors of 12 MiB: 12,000 pages of 4 KiB each time unless they are kept; one of 256 MiB, which is not."""
    code = (
        "import resource, torch\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "held = lambda: int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0]) >> 10\n"
        "make = lambda: [torch.ones(3 << 20) for _ in range(4)]\n"
        "make(); before = faults()\n"
        "for _ in range(10): make()\n"
        "print(faults() - before)\n"
        "large = torch.ones(1 << 26); before = held(); del large; print(before - held())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | CPU.rollout_env(1), capture_output=True, text=True, check=True
    )
    faults, given_back = map(int, done.stdout.split())
    assert faults < 30_000  # 120,000 if all come anew each time
    assert given_back > 250  # MiB


def has_huge_heaps() -> bool:
    """Whether the kernel hands out pages of 2 MiB when asked, and glibc asks."""
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    _, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
    return enabled.exists() and "[never]" not in enabled.read_text() and tuple(map(int, version.split("."))) >= (2, 35)


@pytest.mark.skipif(not has_huge_heaps(), reason="a kernel or a glibc without huge pages for the heap")
def test_small_tensors_lie_in_large_pages_on_a_cpu():
    """64 tensors of 1 MiB, which torch itself asks no large pages for: 16,384 pages of 4 KiB, or 32 of 2 MiB."""
    code = (
        "import resource, torch\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults(); kept = [torch.ones(1 << 18) for _ in range(64)]\n"
        "print(faults() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | CPU.rollout_env(1), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8_000  # half of them: a kernel short of large pages gives small ones


def test_no_ascend_knob_leaks_into_the_other_devices(monkeypatch):
    monkeypatch.setenv("HCCL_CONNECT_TIMEOUT", "99")
    monkeypatch.setenv("TASK_QUEUE_ENABLE", "2")
    for accelerator in (CPU, CUDA):
        for env in (accelerator.train_env(1), accelerator.rollout_env(1)):
            assert not any(key.startswith(("HCCL", "TASK_QUEUE", "ASCEND", "PYTORCH_NPU")) for key in env)


def test_rng_state_comes_back():
    state = CPU.rng_state()
    drawn = torch.rand(4)
    CPU.set_rng_state(state)
    torch.testing.assert_close(torch.rand(4), drawn, rtol=0, atol=0)


def test_memory_is_counted_in_bytes():
    stats = CPU.memory_stats()
    assert stats.keys() == {"allocated", "reserved", "peak", "free", "total"}
    assert 10**6 < stats["allocated"] <= stats["peak"] * 1.05 < stats["total"]
    CPU.set_device(0)
    CPU.synchronize()
    CPU.empty_cache()
