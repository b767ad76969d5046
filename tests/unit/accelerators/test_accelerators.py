"""The table of devices: what Ray is asked for, which index a process gets, which environment a role sees."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from pangu_rl.accelerators import ACCELERATORS, get_accelerator
from pangu_rl.accelerators.cpu import MEMORY
from pangu_rl.accelerators.npu import rollout_env, train_env
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
    both = {"GOMP_SPINCOUNT": "10000", **MEMORY}
    assert CPU.train_env(2) == {"OMP_NUM_THREADS": "2", "DS_ACCELERATOR": "cpu"} | both
    assert CPU.rollout_env(1) == {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | both


def test_freed_memory_is_kept_on_a_cpu():
    """Four tensors of 12 MiB, made and freed again and again: 12,000 pages of 4 KiB each time unless they are kept."""
    code = (
        "import resource, torch\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "make = lambda: [torch.ones(3 << 20) for _ in range(4)]\n"
        "make(); before = faults()\n"
        "for _ in range(10): make()\n"
        "print(faults() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | CPU.rollout_env(1), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 30_000  # 120,000 if all come anew each time


def test_npu_environments_differ_by_role():
    train, rollout = train_env(8, {}), rollout_env(4, {})
    assert (train["TASK_QUEUE_ENABLE"], rollout["TASK_QUEUE_ENABLE"]) == ("2", "1")
    assert train["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:True"
    assert "expandable_segments:True" not in rollout["PYTORCH_NPU_ALLOC_CONF"]
    assert rollout["VLLM_ASCEND_ENABLE_NZ"] == "0" and "VLLM_ASCEND_ENABLE_NZ" not in train
    assert train["DS_ACCELERATOR"] == "npu"


def test_what_the_user_exported_reaches_the_role_it_is_for():
    exported = {"HCCL_CONNECT_TIMEOUT": "99", "TASK_QUEUE_ENABLE": "1", "PYTORCH_NPU_ALLOC_CONF": "page_size:1g"}
    train, rollout = train_env(8, exported), rollout_env(8, exported)
    assert train["HCCL_CONNECT_TIMEOUT"] == rollout["HCCL_CONNECT_TIMEOUT"] == "99"
    assert (train["TASK_QUEUE_ENABLE"], train["PYTORCH_NPU_ALLOC_CONF"]) == ("1", "page_size:1g")
    assert rollout["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:False"


@pytest.mark.parametrize(
    ("exported", "complaint"),
    [
        (
            {"PYTORCH_NPU_ALLOC_CONF": "expandable_segment:True"},
            "has 'expandable_segment': torch-npu knows expandable_s",
        ),
        ({"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:true"}, "expandable_segments is True or False"),
        ({"PYTORCH_NPU_ALLOC_CONF": "page_size:2m"}, "has 'page_size:2m': page_size is 1g"),
        ({"PYTORCH_NPU_ALLOC_CONF": "max_split_size_mb:20"}, "max_split_size_mb is a whole number above 20"),
        ({"PYTORCH_NPU_ALLOC_CONF": "garbage_collection_threshold:1.5"}, "is a share of 1"),
        ({"PYTORCH_NPU_ALLOC_CONF": "base_addr_aligned_kb:17"}, "from 0 to 16"),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, "PYTORCH_ALLOC_CONF is .*: unset it and set PYTORCH_NPU"),
        ({"TASK_QUEUE_ENABLE": "3"}, "TASK_QUEUE_ENABLE is '3'"),
        ({"CPU_AFFINITY_CONF": "2, npu0:0-1"}, "CPU_AFFINITY_CONF is '2, npu0:0-1'"),
        (
            {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True,max_split_size_mb:64"},
            "expandable_segments:True and max_split_size_mb",
        ),
    ],
)
def test_knobs_that_torch_npu_refuses_are_refused_before_any_actor_starts(exported, complaint):
    with pytest.raises(ConfigError, match=complaint):
        train_env(8, exported)


def test_affinity_grammar_takes_what_the_manual_shows():
    assert train_env(8, {"CPU_AFFINITY_CONF": "1,npu0:0-1,npu1:2-5,npu_affine:1,force:1"})
    assert train_env(8, {"CPU_AFFINITY_CONF": "mode:2,npu0:7"})


def test_allocator_grammar_takes_what_torch_npu_takes():
    options = (
        "max_split_size_mb:21, garbage_collection_threshold:0.8,per_process_memory_fraction:1,base_addr_aligned_kb:0"
    )
    assert train_env(8, {"PYTORCH_NPU_ALLOC_CONF": options})


def test_two_settings_of_the_allocator_are_refused_for_engines_too():
    with pytest.raises(ConfigError, match="later ones refuse it beside"):
        rollout_env(8, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"})


def test_the_nz_format_and_in_place_updates_exclude_each_other():
    with pytest.raises(ConfigError, match="VLLM_ASCEND_ENABLE_NZ is 1"):
        rollout_env(8, {"VLLM_ASCEND_ENABLE_NZ": "1"})


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
