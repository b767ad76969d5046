"""CANN's environment by role, and everything in it that its readers would refuse, overrule or pass over."""

from __future__ import annotations

import pytest

from pangu_rl.accelerators import ACCELERATORS
from pangu_rl.accelerators.npu_env import rollout_env, train_env
from pangu_rl.accelerators.npu_knobs import engine_conflicts, learner_conflicts
from pangu_rl.errors import ConfigError

ALLOCATOR = "PYTORCH_NPU_ALLOC_CONF"


def test_environments_differ_by_role():
    train, rollout = train_env(8, {}), rollout_env(4, {})
    assert (train["TASK_QUEUE_ENABLE"], rollout["TASK_QUEUE_ENABLE"]) == ("2", "1")
    assert (train["CPU_AFFINITY_CONF"], rollout["CPU_AFFINITY_CONF"]) == ("1", "0")
    assert train[ALLOCATOR] == "expandable_segments:True"
    assert "expandable_segments:True" not in rollout[ALLOCATOR]
    assert rollout["VLLM_ASCEND_ENABLE_NZ"] == "0" and "VLLM_ASCEND_ENABLE_NZ" not in train
    assert train["DS_ACCELERATOR"] == "npu"


def test_what_the_user_exported_reaches_the_role_it_is_for():
    exported = {"HCCL_CONNECT_TIMEOUT": "600", "TASK_QUEUE_ENABLE": "1", ALLOCATOR: "page_size:1g"}
    train, rollout = train_env(8, exported), rollout_env(8, exported)
    assert train["HCCL_CONNECT_TIMEOUT"] == rollout["HCCL_CONNECT_TIMEOUT"] == "600"
    assert (train["TASK_QUEUE_ENABLE"], train[ALLOCATOR]) == ("1", "page_size:1g")
    assert rollout[ALLOCATOR] == "expandable_segments:False"


def test_a_variable_of_one_role_goes_before_what_all_have():
    exported = {
        "HCCL_BUFFSIZE": "200",
        "PANGU_RL_LEARNER_HCCL_BUFFSIZE": "400",
        "PANGU_RL_LEARNER_CPU_AFFINITY_CONF": "2",
        "PANGU_RL_ENGINE_TASK_QUEUE_ENABLE": "0",
    }
    train, rollout = train_env(8, exported), rollout_env(8, exported)
    assert (train["HCCL_BUFFSIZE"], rollout["HCCL_BUFFSIZE"]) == ("400", "200")
    assert (train["CPU_AFFINITY_CONF"], rollout["CPU_AFFINITY_CONF"]) == ("2", "0")
    assert (train["TASK_QUEUE_ENABLE"], rollout["TASK_QUEUE_ENABLE"]) == ("2", "0")


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_other_devices_have_variables_of_roles_too(name):
    exported = {"PANGU_RL_LEARNER_OMP_NUM_THREADS": "3", "PANGU_RL_ENGINE_VLLM_SEED": "4"}
    train, rollout = ACCELERATORS[name].train_env(1, exported), ACCELERATORS[name].rollout_env(1, exported)
    assert (train["OMP_NUM_THREADS"], rollout["VLLM_SEED"]) == ("3", "4")
    assert rollout["OMP_NUM_THREADS"] == "1" and "VLLM_SEED" not in train


def test_defaults_follow_what_is_exported():
    assert train_env(1, {"ASCEND_LAUNCH_BLOCKING": "1"})["TASK_QUEUE_ENABLE"] == "0"
    assert rollout_env(1, {"ASCEND_LAUNCH_BLOCKING": "1"})["ASCEND_LAUNCH_BLOCKING"] == "0", "the learner's alone"
    assert train_env(1, {"HCCL_OP_EXPANSION_MODE": "AIV"})["HCCL_EXEC_TIMEOUT"] == "1091"


@pytest.mark.parametrize(
    ("exported", "complaint"),
    [
        ({"TASK_QUEUE_ENABLE": "3"}, "TASK_QUEUE_ENABLE is '3'"),
        ({"CPU_AFFINITY_CONF": "2, npu0:0-1"}, "CPU_AFFINITY_CONF is '2, npu0:0-1'"),
        ({"HCCL_CONNECT_TIMEOUT": "60"}, "HCCL_CONNECT_TIMEOUT is '60': write 120 to 7200"),
        ({"HCCL_OP_EXPANSION_MODE": "aiv"}, "HCCL_OP_EXPANSION_MODE is 'aiv'"),
        ({"HCCL_BUFFSIZE": "0"}, "HCCL_BUFFSIZE is '0'"),
        ({"HCCL_NPU_SOCKET_PORT_RANGE": "61000:61050"}, "HCCL_NPU_SOCKET_PORT_RANGE is '61000:61050'"),
        ({"HCCL_DETERMINISTIC": "1"}, "HCCL_DETERMINISTIC is '1'"),
        ({"ASCEND_LAUNCH_BLOCKING": "1", "TASK_QUEUE_ENABLE": "2"}, "blocking launches turn the queue off"),
        ({"HCCL_IF_IP": "10.0.0.1", "HCCL_SOCKET_IFNAME": "eth0"}, "HCCL_IF_IP is 10.0.0.1 and goes before HCCL_SOC"),
        ({"HCCL_IF_BASE_PORT": "50000"}, "HCCL_HOST_SOCKET_PORT_RANGE is auto and goes before HCCL_IF_BASE_PORT 50000"),
        ({"HCCL_OP_EXPANSION_MODE": "AIV", "HCCL_EXEC_TIMEOUT": "3600"}, "HCCL takes no more than 1091"),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, "PYTORCH_ALLOC_CONF is expandable_segments:True beside"),
        (
            {ALLOCATOR: "expandable_segments:True,max_split_size_mb:64"},
            "expandable_segments:True and max_split_size_mb",
        ),
        ({ALLOCATOR: "expandable_segments:true"}, "expandable_segments:true: write True or False"),
        ({ALLOCATOR: "max_split_size_mb:20"}, "write more than 20"),
        ({ALLOCATOR: "garbage_collection_threshold:1.0"}, "write more than 0 and less than 1"),
        ({ALLOCATOR: "expandable_segment:True"}, "does not know"),
        ({ALLOCATOR: "segment_size_mb:40"}, "segment_size_mb without expandable_segments:True"),
        ({ALLOCATOR: "expandable_segments:True,segment_size_mb:600"}, "write 20 to 512"),
        (
            {ALLOCATOR: "expandable_segments:True,page_size:1g,segment_size_mb:40"},
            "page_size, which goes before its segment_size_mb",
        ),
        ({ALLOCATOR: "pin_memory_expandable_segments:True,pinned_mem_register:True"}, "exclude each other"),
    ],
)
def test_a_learner_is_not_started_with(exported, complaint):
    with pytest.raises(ConfigError, match=complaint):
        train_env(8, exported)


@pytest.mark.parametrize(
    "exported",
    [
        {"CPU_AFFINITY_CONF": "1,npu0:0-1,npu1:2-5,npu_affine:1,force:1"},
        {"CPU_AFFINITY_CONF": "mode:2,npu0:7"},
        {ALLOCATOR: "max_split_size_mb:32,garbage_collection_threshold:0.6"},
        {ALLOCATOR: "expandable_segments:True,base_addr_aligned_kb:16"},
        {ALLOCATOR: "expandable_segments:True,segment_size_mb:40"},
        {ALLOCATOR: "roundup_power2_divisions:[256:1,512:2,1024:4,>:8],pinned_use_background_threads:True"},
        {ALLOCATOR: "page_size:1g"},
        {"HCCL_HOST_SOCKET_PORT_RANGE": "60000,60050-60100,60150-60160"},
        {"HCCL_DETERMINISTIC": "strict", "HCCL_EXEC_TIMEOUT": "0"},
    ],
)
def test_what_the_manuals_show_is_taken(exported):
    assert train_env(8, exported).items() >= exported.items()


@pytest.mark.parametrize(
    ("exported", "complaint"),
    [
        ({"VLLM_ASCEND_ENABLE_NZ": "1"}, "VLLM_ASCEND_ENABLE_NZ is 1"),
        ({"PANGU_RL_ENGINE_VLLM_ASCEND_ENABLE_NZ": "2"}, "VLLM_ASCEND_ENABLE_NZ is 2"),
        ({"PANGU_RL_ENGINE_TASK_QUEUE_ENABLE": "2"}, "graph capture refuses it"),
        ({"PANGU_RL_ENGINE_ASCEND_LAUNCH_BLOCKING": "1"}, "ASCEND_LAUNCH_BLOCKING is 1 for engines"),
        ({"PANGU_RL_ENGINE_CPU_AFFINITY_CONF": "2"}, "vllm-ascend binds their cores itself"),
        ({f"PANGU_RL_ENGINE_{ALLOCATOR}": "expandable_segments:True"}, "sleep mode refuses it"),
        ({f"PANGU_RL_ENGINE_{ALLOCATOR}": "pin_memory_expandable_segments:True"}, "sleep mode refuses it"),
        ({"VLLM_USE_V2_MODEL_RUNNER": "1"}, "vllm-ascend 0.23 has the first alone"),
        ({"VLLM_PLUGINS": "ascend,pangu_vl"}, "without ascend_model, ascend_model_loader"),
        ({"VLLM_BATCH_INVARIANT": "1", "HCCL_DETERMINISTIC": "false"}, "which it sets to strict"),
        ({"HCCL_SOCKET_IFNAME": "eth0", "HCCL_IF_IP": "10.0.0.1"}, "goes before"),
    ],
)
def test_an_engine_is_not_started_with(exported, complaint):
    with pytest.raises(ConfigError, match=complaint):
        rollout_env(8, exported)


def test_every_conflict_has_a_mend_and_all_are_told():
    env = {"HCCL_BUFFSIZE": "x", "TASK_QUEUE_ENABLE": "2", ALLOCATOR: "expandable_segments:True,segment_size_mb:1"}
    assert len(list(learner_conflicts(env))) == 2
    found = list(engine_conflicts(env))
    assert len(found) == 4 and all(conflict.mend for conflict in found)
