"""Where actors go on a cluster that is only described: worked placements, and each thing that does not fit."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.cli.app import STAGES
from pangu_rl.cluster.jobs import load_profile
from pangu_rl.cluster.plan import learner_gib, model_paths, phases_of, plan
from pangu_rl.cluster.plan_table import plan_table
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import checked, load_config
from pangu_rl.config.sampling import IterativeConfig
from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError
from tests.contracts.source_tree import ROOT

PRETRAIN = [f"pretrain/{path.stem}" for path in sorted((ROOT / "configs" / "pretrain").glob("pretrain_*.yaml"))]


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


def places(found) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(placed.actor.name, placed.node, placed.devices) for placed in found.placed]


def test_engines_then_ranks_each_on_the_first_node_with_room():
    [phase] = plan("grpo", grpo(actors=3, width=3, ranks=3), profile(count=2, devices=8)).phases
    assert places(phase) == [
        ("rollout actor 0", "a2 0", (0, 1, 2)),
        ("rollout actor 1", "a2 0", (3, 4, 5)),
        ("rollout actor 2", "a2 1", (0, 1, 2)),
        ("learner rank 0", "a2 0", (6,)),
        ("learner rank 1", "a2 0", (7,)),
        ("learner rank 2", "a2 1", (3,)),
    ]
    assert not phase.problems


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
            "learner rank 4 (and 1 more up to learner rank 5) asks for 1 device on one node, and all 16 are taken",
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
    assert [placed.actor.gib_per_device for placed in found.phases[0].placed] == [27, 84, 84]
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
    assert [(phase.name, len(phase.placed)) for phase in found.phases] == [("SFT start", 8), ("grpo", 2)]
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
    assert places(found.phases[0])[:2] == [("scorer ours", "a2", (0, 1, 2, 3)), ("rollout actor 0", "a2", (4,))]
    assert found.all_problems == [
        "scorer served needs JUDGE_KEY: list it under the profile's secrets and set it on the cluster"
    ]
    assert plan("grpo", grpo(rewards=rewards), profile(count=1, secrets=["JUDGE_KEY"])).fits


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
    assert places(found.phases[0]) == [("learner rank 0", "a2", ()), ("learner rank 1", "a2", ())]
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


@pytest.mark.parametrize("file", ["quickstart/grpo_text", "quickstart/sft_text", *PRETRAIN])
def test_shipped_stages_are_planned_on_every_shipped_profile(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    stage = Path(file).name.split("_")[0]
    config = load_config(STAGES[stage], f"configs/{file}.yaml")
    for shipped in sorted(Path("configs/clusters").glob("*.yaml")):
        found = plan(stage, config, load_profile(shipped.stem))
        assert len(found.phases[-1].placed) >= 1, shipped


def test_a_pipeline_needs_what_its_stages_need(monkeypatch):
    """Each stage's actors live in a phase of its own; a merge has none. Weights of 2 GiB make a learner of 2 x 9."""
    monkeypatch.chdir(ROOT)
    config = load_config(STAGES["pipeline"], "configs/pipeline/text.yaml", ["trainer.run_dir=/shared/runs"])
    found = plan("pipeline", config, profile(count=1, devices=2, memory=15), weight_gib=2)
    actors = {phase.name: [placed.actor.name for placed in phase.placed] for phase in found.phases}
    assert list(actors)[:4] == ["evaluations/start", "sft", "evaluations/sft", "pairs"]
    assert actors["sft"] == ["learner rank 0"]
    assert actors["pairs"] == ["rollout actor 0"]
    assert actors["grpo"] == ["rollout actor 0", "learner rank 0"]
    assert actors["iterative: fine-tuning"] == ["learner rank 0"]
    assert "mean" not in actors
    assert {problem.split(":")[0] for problem in found.all_problems} == {"sft", "dpo", "grpo", "iterative"}
    assert plan("pipeline", config, profile(count=1, devices=2, memory=64), weight_gib=2).fits


def test_a_pipeline_must_see_its_starts_and_name_its_secrets(monkeypatch):
    monkeypatch.chdir(ROOT)
    overrides = ["trainer.run_dir=/shared/runs", "monitoring={wandb_project: x}"]
    config = load_config(STAGES["pipeline"], "configs/pipeline/text.yaml", overrides)
    problems = plan("pipeline", config, profile()).all_problems
    assert model_paths(config) == ["cache://models/smollm2-135m-instruct"]
    assert problems[0].startswith("model.path cache://models/smollm2-135m-instruct is under no folder")
    assert problems[1].startswith("monitoring.wandb_project needs WANDB_API_KEY")
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"env": {"WANDB_API_KEY": "canary"}}, "WANDB_API_KEY looks like a secret"),
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
    wide = CliRunner().invoke(app, [*quickstart, "--profile", "gpu", "--plan", "learner.ranks=20"])
    assert wide.exit_code == 2
    assert "does not fit" in wide.stdout and "learner rank 15" in wide.stdout
    for arguments, says in (
        (["--profile", "gpu", "learner.ranks=20"], "all 16 are taken"),
        (["--profile", "nope"], "configs/clusters/ has .*kuberay"),
        (["--plan"], "--plan needs --profile"),
    ):
        with pytest.raises(ConfigError, match=says):
            CliRunner().invoke(app, [*quickstart, *arguments], catch_exceptions=False)
