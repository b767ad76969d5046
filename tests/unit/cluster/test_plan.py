"""Where actors go on a cluster that is only described: worked placements, and each thing that does not fit."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.cli.app import STAGES, schema_of
from pangu_rl.cluster.demand import REWARD, learner_gib, phases_of
from pangu_rl.cluster.jobs import load_profile
from pangu_rl.cluster.plan import asked, plan
from pangu_rl.cluster.plan_table import plan_table
from pangu_rl.cluster.profile_checks import model_paths
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import checked, load_config
from pangu_rl.config.sampling import IterativeConfig
from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError
from tests.contracts.source_tree import ROOT

SHIPPED = [
    path.relative_to(ROOT).as_posix()
    for folder in ("quickstart", "mini", "recipe", "dpo", "vit", "eval", "openpangu_7b", "mindvl_8b")
    for path in sorted((ROOT / "configs" / folder).glob("*.yaml"))
    if not path.name.startswith("assemble")
]


def profile(count: int = 2, devices: int = 8, memory: float | None = 64, **more) -> ClusterProfile:
    node = {"name": "a2", "count": count, "devices": devices, "device_memory_gib": memory, "cpus": 8, "memory_gib": 64}
    tree = {"description": "", "accelerator": "npu", "nodes": [node], "shared": ["/shared"]}
    return checked(ClusterProfile, tree | more, "profile")


def grpo(actors: int = 1, width: int = 1, ranks: int = 1, **sections) -> GrpoConfig:
    tree = {
        "model": {"path": "/shared/model"},
        "data": {"train": "t"},
        "rollout": {"actors": actors, "devices_per_actor": width, "kv_cache_gib": 20},
        "learner": {"ranks": ranks, "zero_stage": 1},
        "trainer": {"run_dir": "/shared/runs/x", "steps": 1},
    }
    return checked(GrpoConfig, tree | sections, "grpo")


def places(found) -> list[tuple[str, str, int | None]]:
    """(actor, node, bundle) of all but the reward workers."""
    return [(placed.actor.name, placed.node, placed.bundle) for placed in found.placed if placed.actor.role != REWARD]


def rank_nodes(found) -> list[str]:
    return [placed.node for placed in found.placed if placed.actor.name.startswith("learner")]


def test_the_widest_first_each_on_the_fullest_node_that_has_room():
    """Engines of 3 leave 2 of 8 devices free; a third one needs the second node, and ranks fill the holes."""
    [phase] = plan("grpo", grpo(actors=3, width=3, ranks=3), profile(count=2, devices=8)).phases
    assert places(phase) == [
        ("rollout actor 0", "a2 0", 0),
        ("rollout actor 1", "a2 0", 1),
        ("rollout actor 2", "a2 1", 2),
        ("learner rank 0", "a2 0", 3),
        ("learner rank 1", "a2 0", 4),
        ("learner rank 2", "a2 1", 5),
    ]
    assert not phase.problems
    assert asked(phase, "NPU")[2:4] == [
        {"node": "a2 1", "resources": {"NPU": 3}},
        {"node": "a2 0", "resources": {"NPU": 1}},
    ]


def test_engines_do_not_lose_their_nodes_to_ranks():
    """48 ranks and 4 engines over 4 devices fill 8 x 8 to the last device: two engines to a node, then ranks."""
    [phase] = plan("grpo", grpo(actors=4, width=4, ranks=48), profile(count=8, devices=8)).phases
    assert [node for _, node, _ in places(phase)[:4]] == ["a2 0", "a2 0", "a2 1", "a2 1"]
    assert rank_nodes(phase) == [f"a2 {2 + rank // 8}" for rank in range(48)]
    assert not phase.problems


@pytest.mark.parametrize(
    ("nodes", "devices", "config"),
    [
        (1, 1, grpo(rollout={"placement": "shared"}, ranks=1)),
        (2, 8, grpo(actors=2, width=4, learner={"ranks": 8, "sequence_parallel": 8, "zero_stage": 1})),
        (8, 8, grpo(actors=32, ranks=32)),
        (64, 8, grpo(actors=32, width=8, learner={"ranks": 256, "sequence_parallel": 8, "zero_stage": 1})),
        (64, 8, grpo(rollout={"placement": "shared", "actors": 128, "devices_per_actor": 4}, ranks=512)),
    ],
)
def test_clusters_that_are_filled_to_the_last_device(nodes, devices, config):
    """No node holds more than its devices, and a sequence group is on one node."""
    [phase] = plan("grpo", config, profile(count=nodes, devices=devices)).phases
    held: Counter[str] = Counter()
    for bundle in phase.bundles:
        held[bundle.node] += bundle.devices
    assert not phase.problems
    assert list(held.values()) == [devices] * nodes
    degree, ranks = config.learner.sequence_parallel, rank_nodes(phase)
    assert all(len(set(ranks[start : start + degree])) == 1 for start in range(0, len(ranks), degree))


def test_a_sequence_group_lies_on_one_node():
    """Groups of 8 beside an engine of 2: the groups take whole nodes, and the engine what is left."""
    learner = {"ranks": 16, "sequence_parallel": 8, "zero_stage": 1}
    found = plan("grpo", grpo(width=2, learner=learner), profile(count=3, devices=8))
    assert places(found.phases[0])[0] == ("rollout actor 0", "a2 2", 0)
    assert rank_nodes(found.phases[0]) == ["a2 0"] * 8 + ["a2 1"] * 8
    small = plan("grpo", grpo(width=2, learner=learner), profile(count=8, devices=4))
    assert small.all_problems == [
        "grpo: learner ranks 0 to 7 (and 1 more up to learner ranks 8 to 15) asks for 8 devices on one node, a node "
        "has 4: lower learner.sequence_parallel to 4"
    ]


def test_shared_engines_lie_in_the_bundles_of_their_ranks():
    """Two engines of 2 on ranks 0 to 3, and a group of 4 ranks has two engines on one node; ranks 4 to 7 have none."""
    rollout = {"placement": "shared", "actors": 2, "devices_per_actor": 2, "kv_cache_gib": 20}
    learner = {"ranks": 8, "sequence_parallel": 4, "zero_stage": 1}
    [phase] = plan("grpo", grpo(rollout=rollout, learner=learner), profile(count=2, devices=4)).phases
    found = places(phase)
    assert found[:6] == [
        ("learner rank 0", "a2 0", 0),
        ("learner rank 1", "a2 0", 0),
        ("rollout actor 0", "a2 0", 0),
        ("learner rank 2", "a2 0", 1),
        ("learner rank 3", "a2 0", 1),
        ("rollout actor 1", "a2 0", 1),
    ]
    assert found[6:] == [(f"learner rank {rank}", "a2 1", rank - 2) for rank in range(4, 8)]
    assert [bundle.devices for bundle in phase.bundles] == [2, 2, 1, 1, 1, 1], "an engine's devices are its ranks'"


@pytest.mark.parametrize(
    ("device", "host", "says"),
    [
        (50, 200, None),
        (
            40,
            200,
            "learner rank 0 (and 3 more up to learner rank 3) holds at least 45 GiB on each device, which has 40",
        ),
        (50, 100, "the learner ranks on a2 hold at least 180 GiB of its memory, which is 100: fewer ranks a node"),
    ],
)
def test_shared_devices_hold_one_actor_at_a_time(device, host, says):
    """10 GiB of weights on 4 ranks at ZeRO 1: 10 + 20 + 60 / 4 = 45 GiB while they train; an engine holds 10 + 20 while
    it draws, and then 4 x 45 GiB are on the host."""
    rollout = {"placement": "shared", "actors": 4, "kv_cache_gib": 20}
    cluster = profile(count=1, devices=4, memory=device)
    cluster = cluster.model_copy(update={"nodes": (cluster.nodes[0].model_copy(update={"memory_gib": host}),)})
    found = plan("grpo", grpo(rollout=rollout, ranks=4), cluster, weight_gib=10)
    assert found.fits if says is None else says in found.all_problems[0]


@pytest.mark.parametrize(
    ("config", "cluster", "says"),
    [
        (
            grpo(actors=1, width=16),
            profile(),
            "rollout actor 0 asks for 16 devices on one node, a node has 8: lower rollout.devices_per_actor to 8",
        ),
        (
            grpo(actors=4, width=3, ranks=1),
            profile(count=1),
            "rollout actor 2 (and 1 more up to rollout actor 3) asks for 3 devices on one node; 2 are free, at most 2",
        ),
        (
            grpo(actors=2, width=6, ranks=6),
            profile(count=2, devices=8),
            "learner rank 4 (and 1 more up to learner rank 5) asks for 1 device on one node, and all 16 are taken "
            "(12 by rollout actors, 4 by learner ranks): fewer actors or more nodes",
        ),
        (grpo(actors=3, width=5), profile(count=2), "6 are free, at most 3 of them on one node (a2 0)"),
    ],
)
def test_what_finds_no_devices(config, cluster, says):
    found = plan("grpo", config, cluster)
    assert not found.fits
    assert says in found.all_problems[0]


def test_bytes_of_a_learner_rank():
    """10 GiB of bf16 weights: 10 + 20 (fp32 gradients) + 60 (fp32 weights and moments); ZeRO divides over 4 ranks."""
    assert learner_gib(10, 1, 1) == 90
    assert learner_gib(10, 4, 0) == 90
    assert learner_gib(10, 4, 1) == 10 + 20 + 15
    assert learner_gib(10, 4, 2) == 10 + 5 + 15
    assert learner_gib(10, 4, 3) == 22.5


def test_what_does_not_fit_into_memory():
    """14 GiB of weights: a rank of two at ZeRO 1 holds 14 + 28 + 42 = 84 GiB; an engine over 2 devices 7 + 20."""
    found = plan("grpo", grpo(actors=1, width=2, ranks=2), profile(memory=80), weight_gib=14)
    assert [placed.actor.gib_per_device for placed in found.phases[0].placed] == [27, 84, 84, None]
    assert found.all_problems == [
        "grpo: learner rank 0 (and 1 more up to learner rank 1) holds at least 84 GiB on each device, which has 80: "
        "a higher learner.zero_stage or more learner.ranks"
    ]
    assert plan("grpo", grpo(actors=1, width=2, ranks=2), profile(memory=None), weight_gib=14).fits


def test_an_estimate_is_said_by_its_parts():
    """30 + 40 + 5 GiB on the device and 10 on the host: what passes is the larger half, so that is to be changed."""
    sizes = {"weights": 30, "activations": 40, "workspace": 5, "host": 10}
    found = plan(
        "sft", sft(1), profile(memory=64), learner_memory=lambda config: {k: v * 2**30 for k, v in sizes.items()}
    )
    [placed] = found.phases[0].placed
    assert placed.actor.gib_per_device == 75
    assert found.all_problems[0] == (
        "sft: learner rank 0 holds about 75 GiB on each device, which has 64: learner.gradient_checkpointing, a higher "
        "learner.sequence_parallel, or shorter packs"
    )
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(plan_table(found))
    shown = console.export_text()
    assert "about 75.0" in shown
    assert re.search(r"phase +weights +activations +workspace +host", shown)
    assert re.search(r"sft +30.0 +40.0 +5.0 +10.0", shown)
    # Without devices it is the host's memory too: 85 of 64.
    there = plan(
        "sft",
        sft(1),
        profile(1, devices=0, memory=None),
        learner_memory=lambda _: {"weights": 75 * 2**30, "host": 10 * 2**30},
    )
    assert "1 actors hold about 85 GiB, the nodes have 64" in there.all_problems[0]
    assert plan("sft", sft(1), profile(), 2, lambda config: None).phases[0].placed[0].actor.gib_per_device == 18


def test_phases_follow_each_other(tmp_path):
    sft = tmp_path / "sft.yaml"
    sft.write_text("model: {path: m}\ndata: {train: t}\nlearner: {ranks: 8}\ntrainer: {run_dir: r, steps: 1}\n")
    config = grpo(actors=1, width=7, ranks=1, start={"sft_config": str(sft)})
    found = plan("grpo", config, profile(count=1))
    assert [(phase.name, len(phase.placed)) for phase in found.phases] == [("SFT start", 8), ("grpo", 3)]
    assert found.fits, "the start's ranks have left when the engines come"

    tree = {
        "model": {"path": "m"},
        "data": {"queries": "q"},
        "rollout": {"completions": 4, "actors": 2},
        "trainer": {"run_dir": "r"},
    }
    names = [name for name, _ in phases_of("iterative", checked(IterativeConfig, tree, "iterative"))]
    assert names == ["sampling", "fine-tuning"]


def test_scorers_with_engines_of_ours_come_first(tmp_path):
    scorers = tmp_path / "scorers.yaml"
    served = {"name": "served", "model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "JUDGE_KEY"}
    ours = {"name": "ours", "model": "m", "engine": {"devices": 4}}
    scorers.write_text(yaml.safe_dump({"scorers": [served, ours], "cache": "votes.sqlite"}))
    rewards = {"functions": [{"name": "boxed_accuracy"}, {"name": "llm_score", "args": {"config": str(scorers)}}]}
    found = plan("grpo", grpo(rewards=rewards), profile(count=1))
    assert places(found.phases[0])[:2] == [("scorer ours", "a2", 0), ("rollout actor 0", "a2", 1)]
    assert found.all_problems == [
        "scorer served needs JUDGE_KEY: list it under the profile's secrets and set it on the cluster"
    ]
    assert plan("grpo", grpo(rewards=rewards), profile(count=1, secrets=["JUDGE_KEY"])).fits


def test_a_scorer_has_no_turn_on_shared_devices(tmp_path):
    """It has devices of its own, or is served elsewhere."""
    scorers = tmp_path / "scorers.yaml"
    scorers.write_text(yaml.safe_dump({"scorers": [{"name": "ours", "model": "m", "engine": {}}], "cache": "votes"}))
    rewards = {"functions": [{"name": "boxed_accuracy"}, {"name": "llm_score", "args": {"config": str(scorers)}}]}
    config = grpo(rollout={"placement": "shared", "kv_cache_gib": 1}, rewards=rewards)
    assert places(plan("grpo", config, profile(count=1, devices=2)).phases[0]) == [
        ("scorer ours", "a2", 0),
        ("learner rank 0", "a2", 1),
        ("rollout actor 0", "a2", 1),
    ]
    assert plan("grpo", config, profile(count=1, devices=1)).all_problems == [
        "grpo: learner rank 0 asks for 1 device on one node, and all 1 are taken (1 by scorers): fewer actors, a "
        "scorer behind a base_url or more nodes"
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"env": {"TASK_QUEUE_ENABLE": "3"}},
            ["TASK_QUEUE_ENABLE is '3': write 0 (off), 1, or 2 (deeper, for learners)"],
        ),
        # What both roles refuse is told once.
        (
            {"env": {"HCCL_BUFFSIZE": "0"}},
            ["HCCL_BUFFSIZE is '0': write a number of MB, 1 or more"],
        ),
        (
            {"learner_env": {"CPU_AFFINITY_CONF": "2"}, "engine_env": {"CPU_AFFINITY_CONF": "2"}},
            ["CPU_AFFINITY_CONF is 2 for engines, and vllm-ascend binds their cores itself: set it for learners alone"],
        ),
        (
            {"engine_env": {"ASCEND_RT_VISIBLE_DEVICES": "0"}},
            ["ASCEND_RT_VISIBLE_DEVICES is set for each actor by its place: take it out of the profile"],
        ),
        (
            {"env": {"HCCL_IF_IP": "10.0.0.1"}},
            ["HCCL_IF_IP is of one node, and all would have it: set HCCL_SOCKET_IFNAME instead"],
        ),
        ({"env": {"HCCL_SOCKET_IFNAME": "eth0"}, "learner_env": {"CPU_AFFINITY_CONF": "2"}}, []),
    ],
)
def test_variables_that_contradict_each_other(change, says):
    assert plan("grpo", grpo(), profile(**change)).all_problems == says


NPU_PROFILES = sorted(path.stem for path in (ROOT / "configs/clusters").glob("atlas_*.yaml"))


@pytest.mark.parametrize("name", NPU_PROFILES)
def test_the_profiles_of_npus_set_the_learners_queue_and_cores(name, monkeypatch):
    """As docs/ascend.md says. What `npu_env.py` has by default they leave to it."""
    monkeypatch.chdir(ROOT)
    found = load_profile(name)
    assert found.learner_env == {"TASK_QUEUE_ENABLE": "2", "CPU_AFFINITY_CONF": "2"}
    assert (found.env, found.engine_env) == ({}, {})


def test_paths_that_not_every_node_sees():
    config = grpo(model={"path": "cache://models/x"}, trainer={"run_dir": "/home/me/runs", "steps": 1})
    problems = plan("grpo", config, profile()).all_problems
    assert problems[0].startswith("model.path cache://models/x is under no folder that all nodes see (/shared)")
    assert problems[1].startswith("trainer.run_dir /home/me/runs is under no folder")
    assert plan("grpo", config, profile(count=1)).fits, "one node sees its own folders"
    cached = profile(env={"PANGU_RL_CACHE": "/shared/cache"})
    assert len(plan("grpo", config, cached).all_problems) == 1


def test_a_machine_without_devices_shares_its_memory():
    cluster = profile(count=1, devices=0, memory=None)
    found = plan("sft", sft(ranks=2), cluster, weight_gib=2)
    assert places(found.phases[0]) == [("learner rank 0", "a2", None), ("learner rank 1", "a2", None)]
    # 2 + 4 + 6 GiB for each of two ranks: 24 of 64. Six times the weights do not fit.
    assert found.fits
    assert "hold at least 144 GiB, the nodes have 64 GiB" in plan("sft", sft(2), cluster, weight_gib=12).all_problems[0]


def sft(ranks: int) -> SftConfig:
    tree = {
        "model": {"path": "m"},
        "data": {"train": "t"},
        "learner": {"ranks": ranks},
        "trainer": {"run_dir": "r", "steps": 1},
    }
    return checked(SftConfig, tree, "sft")


@pytest.mark.parametrize("file", SHIPPED)
def test_shipped_stages_are_planned_on_every_shipped_profile(file, monkeypatch):
    """Each actor has its place, or there is a reason."""
    monkeypatch.chdir(ROOT)
    folder, name = Path(file).parent.name, Path(file).stem
    stage = folder if folder in STAGES else name.split("_")[0]
    config = load_config(schema_of(stage), file)
    wanted = [sum(len(block.actors) for block in blocks) for _, blocks in phases_of(stage, config)]
    for shipped in sorted(Path("configs/clusters").glob("*.yaml")):
        for phase, count in zip(plan(stage, config, load_profile(shipped.stem)).phases, wanted, strict=True):
            assert phase.problems or len(phase.placed) == count, shipped


def test_a_pipeline_needs_what_its_stages_need(monkeypatch):
    """Each stage's actors live in a phase of its own; a merge has none. Weights of 2 GiB make a learner of 2 x 9."""
    monkeypatch.chdir(ROOT)
    config = load_config(schema_of("pipeline"), "configs/pipeline/text.yaml", ["trainer.run_dir=/shared/runs"])
    found = plan("pipeline", config, profile(count=1, devices=2, memory=15), weight_gib=2)
    actors = {phase.name: [placed.actor.name for placed in phase.placed] for phase in found.phases}
    assert list(actors)[:4] == ["evaluations/start", "sft", "evaluations/sft", "pairs"]
    assert actors["sft"] == ["learner rank 0"]
    assert actors["pairs"] == ["rollout actor 0", "reward worker 0"]
    assert actors["grpo"] == ["rollout actor 0", "learner rank 0", "reward worker 0"]
    assert actors["iterative: fine-tuning"] == ["learner rank 0"]
    assert "mean" not in actors
    assert {problem.split(":")[0] for problem in found.all_problems} == {"sft", "dpo", "grpo", "iterative"}
    assert plan("pipeline", config, profile(count=1, devices=2, memory=64), weight_gib=2).fits


def test_a_pipeline_must_see_its_starts_and_name_its_secrets(monkeypatch):
    monkeypatch.chdir(ROOT)
    overrides = ["trainer.run_dir=/shared/runs", "monitoring={wandb_project: x}"]
    config = load_config(schema_of("pipeline"), "configs/pipeline/text.yaml", overrides)
    problems = plan("pipeline", config, profile()).all_problems
    assert model_paths(config) == ["cache://models/smollm2-135m-instruct"]
    assert problems[0].startswith("model.path cache://models/smollm2-135m-instruct is under no folder")
    assert problems[1].startswith("monitoring.wandb_project needs WANDB_API_KEY")
    assert len(problems) == 2


def test_where_mlflow_keeps_its_runs_is_no_secret():
    config = grpo(monitoring={"mlflow_experiment": "x"})
    [problem] = plan("grpo", config, profile()).all_problems
    assert problem.startswith("monitoring.mlflow_experiment needs MLFLOW_TRACKING_URI")
    assert plan("grpo", config, profile(env={"MLFLOW_TRACKING_URI": "http://mlflow:5000"})).fits


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"env": {"WANDB_API_KEY": "canary"}}, "WANDB_API_KEY looks like a secret"),
        ({"engine_env": {"HF_TOKEN": "canary"}}, "HF_TOKEN looks like a secret"),
        ({"secrets": ["WANDB_API_KEY=canary"]}, "names only, never values"),
        ({"nodes": []}, "nodes"),
        ({"acelerator": "npu"}, "did you mean accelerator"),
    ],
)
def test_profiles_that_cannot_be(change, says):
    with pytest.raises(ConfigError, match=says) as raised:
        profile(**change)
    assert "canary" not in str(raised.value)


def test_the_command_sends_nothing(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(ROOT)
    quickstart = ["submit", "grpo", "--config", "configs/quickstart/grpo_text.yaml"]
    fits = CliRunner().invoke(app, [*quickstart, "--profile", "local", "--plan", "--json", f"run_dir={tmp_path}"])
    assert fits.exit_code == 0, fits.output
    shown = json.loads(fits.stdout)
    assert shown["fits"] and [phase["name"] for phase in shown["phases"]] == ["SFT start", "grpo"]
    own = CliRunner().invoke(app, ["submit", "grpo", "--config", "configs/openpangu_7b/grpo.yaml", "--plan", "--json"])
    assert (own.exit_code, json.loads(own.stdout)["devices"]) == (0, 64), "planned on its cluster.profile"
    wide = CliRunner().invoke(app, [*quickstart, "--profile", "gpu", "--plan", "learner.ranks=20"])
    assert wide.exit_code == 2
    assert "does not fit" in wide.stdout and "learner rank 15" in wide.stdout
    for arguments, says in (
        (["--profile", "gpu", "learner.ranks=20"], "all 16 are taken"),
        (["--profile", "nope"], "configs/clusters/ has .*kuberay"),
        (["--plan"], "--plan needs --profile, or cluster.profile"),
    ):
        with pytest.raises(ConfigError, match=says):
            CliRunner().invoke(app, [*quickstart, *arguments], catch_exceptions=False)


def test_a_run_as_model_is_planned_as_the_model_that_it_made(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(ROOT)
    shape = ROOT / "configs/models/openpangu_vl_7b/config.json"
    made = tmp_path / "assembled" / "model"
    made.mkdir(parents=True)
    (made / "config.json").write_bytes(shape.read_bytes())
    command = ["submit", "grpo", "--config", "configs/openpangu_7b/grpo.yaml", "--profile", "gpu_1", "--plan"]

    def planned(path: Path) -> str:
        return CliRunner().invoke(app, [*command, f"model.path={path}"]).stdout

    assert planned(made.parent) == planned(made) != planned(tmp_path / "nothing")
