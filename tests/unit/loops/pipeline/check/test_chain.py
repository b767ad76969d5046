"""`pangu-rl pipeline --check` on the shipped chains: nothing stands against them; each planted fault is one line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.cluster.jobs import load_profile
from pangu_rl.config.pipelines.override_set import load_pipeline
from pangu_rl.config.pipelines.pipeline import ExternalEntry
from pangu_rl.errors import ConfigError
from pangu_rl.loops.pipeline.check.chain import Chain, check_chain
from pangu_rl.loops.pipeline.check.sources import unshared
from tests.contracts.source_tree import ROOT

PANGU, MINDVL = "configs/pipeline/openpangu_7b.yaml", "configs/pipeline/mindvl_8b.yaml"


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def checked(path: str, *overrides: str, profile: str | None = None) -> Chain:
    return check_chain(load_pipeline(path, overrides), profile)


@pytest.mark.parametrize("path", [PANGU, MINDVL])
def test_the_shipped_chains_can_run(path: str) -> None:
    """On devices of 64 GiB; every learner is estimated by part, every engine holds whole sequences."""
    found = checked(path)
    assert found.faults == ()
    for phase in found.phases:
        assert not phase.ranks or 0 < sum(phase.parts.values()) - phase.parts["host"] < 64
        assert not phase.engines or phase.engine.sequences >= 1


@pytest.mark.parametrize(("path", "miniature"), [(PANGU, "openpangu"), (MINDVL, "mindvl")])
def test_the_miniatures_can_run(path, miniature, tiny_vl_model, tmp_path, monkeypatch) -> None:
    """With a model of that kind where `curate mini-pangu-vl` puts its own; without it, its command is told."""
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path))
    model = shutil.copytree(tiny_vl_model, tmp_path / "models/mini-pangu-vl")
    config = load_pipeline(path, (), f"configs/overrides/{miniature}_miniature.yaml")
    assert check_chain(config).faults == ()
    shutil.rmtree(model)
    told = [fault for fault in check_chain(config).faults if "`pangu-rl curate`" in fault]
    assert [fault.split(":")[0] for fault in told] == (["assembled", "joined"] if miniature == "openpangu" else [])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "stages.warmup.takes={data.plan: pack_warmup.plan}",
            "warmup: model.path /shared/runs/openpangu_7b/joined/model: no stage of the pipeline makes it, and "
            "external does not list it: take it from joined (takes: {model.path: joined.model}), or list it with its",
        ),
        (
            "stages.dpo_stem.takes={model.path: sft_stem.model}",
            "dpo_stem: data.train /shared/runs/openpangu_7b/pairs/pairs.jsonl: no stage of the pipeline makes it",
        ),
        (
            "stages.difficulty.set={data.queries: /shared/data/other.jsonl}",
            "difficulty: data.queries /shared/data/other.jsonl: no stage of the pipeline makes it, and external does "
            "not list it: take it from a stage, or list it with its format (prompts or conversations)",
        ),
        (
            "stages.grpo_stem.takes={model.path: dpo_stem.model}",
            "grpo_stem: data.train /shared/runs/openpangu_7b/difficulty/prompts.jsonl: no stage of the pipeline makes",
        ),
        (
            "stages.dpo_stem.set={data.sft: /shared/data/openpangu/rl.jsonl}",
            "dpo_stem: data.sft /shared/data/openpangu/rl.jsonl is listed as prompts, and the stage reads conv",
        ),
        (
            "stages.annealing.set={learner.pack_tokens: 65536}",
            "annealing: data.plan is pack_annealing.plan, packed for learner.pack_tokens 131072, and the stage has 655",
        ),
        (
            "stages.pairs_stem.set={rewards: {functions: [{name: 'nowhere.py:score'}]}}",
            "pairs_stem: rewards.functions.0.name nowhere.py: no such file",
        ),
        (
            "stages.joined.set={shape: configs/models}",
            "joined: nothing describes its model, so nothing says whether it fits",
        ),
        (
            "stages.pretraining.set={learner.zero_stage: 1}",
            "pretraining: learner rank 0 (and 127 more up to learner rank 127) holds about 72 GiB on each device, "
            "which has 64: a higher learner.zero_stage or more learner.ranks",
        ),
        (
            "stages.annealing.set={learner.gradient_checkpointing: false}",
            "annealing: learner rank 0 (and 127 more up to learner rank 127) holds about",
        ),
        (
            "stages.clusters.set={batch: 32768}",
            "clusters: learner rank 0 (and 127 more up to learner rank 127) holds about 80 GiB on each device",
        ),
        (
            "stages.grpo_stem.set.rollout.actors=65",
            "grpo_stem: learner rank 63 asks for 1 device on one node, and all 128 are taken",
        ),
        (
            "stages.grpo_stem.set={rollout.kv_cache_gib: 2}",
            "grpo_stem: the KV cache of an engine holds 15420 tokens (2.0 GiB a device beside 16.4 of weights), and "
            "rollout.max_model_tokens is 32768",
        ),
        (
            "stages.grpo_stem.set={rollout.devices_per_actor: 3, rollout.actors: 20}",
            "grpo_stem: rollout.devices_per_actor 3 does not divide the 32 attention heads of the model",
        ),
        (
            "stages.difficulty.set={rollout.max_model_tokens: 262144}",
            "difficulty: rollout.max_model_tokens 262144 exceeds the model's max_position_embeddings 131072",
        ),
        (
            "trainer.run_dir=runs/here",
            "trainer.run_dir runs/here is under no folder that all nodes see (/shared)",
        ),
        (
            "monitoring={wandb_project: x}",
            "monitoring.wandb_project needs WANDB_API_KEY",
        ),
        (
            "cluster.accelerator=cuda",
            "pretraining: cluster.accelerator is cuda, and the nodes of the profile have npu",
        ),
    ],
)
def test_what_cannot_run_is_one_line(override: str, says: str) -> None:
    found = checked(PANGU, override)
    told = [fault for fault in found.faults if says in fault]
    assert told, found.faults
    assert all("\n" not in fault for fault in found.faults)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stages.warmup_mean.steps=[30000, 40000]", "keep_steps has 40000 and the stage ends after 30518 steps"),
        (
            "stages.warmup.set={trainer.packs_per_step: 1000}",
            "packs_per_step 1000 cannot be dealt equally to learner",
        ),
        ("stages.multitask.takes={model.path: assembled.step_3}", "assembled makes model"),
        ("cluster.profile=nowhere", "no cluster profile 'nowhere'"),
        ("cluster.profile=null", "--check plans on a cluster: name one with --profile, or in cluster.profile"),
    ],
)
def test_what_the_graph_refuses_is_one_line_too(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(MINDVL, override)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_judges_must_fit(tmp_path: Path) -> None:
    """145 GiB of weights on two devices."""
    panel = yaml.safe_load(Path("configs/scorers/openpangu_panel.yaml").read_text())
    panel["scorers"][0]["engine"]["devices"] = 2
    (tmp_path / "panel.yaml").write_text(yaml.safe_dump(panel))
    functions = f"[{{name: llm_score, args: {{config: {tmp_path / 'panel.yaml'}}}}}]"
    found = checked(PANGU, f"stages.pairs_stem.set={{rewards.functions: {functions}}}")
    [fault] = found.faults
    assert fault.startswith(
        "pairs_stem: scorer qwen2_5_vl_72b holds at least 84 GiB on each of its 2 devices, which has 64"
    )


def test_what_lies_in_object_storage_or_a_shared_cache_is_seen_by_all() -> None:
    """Rows, that is; a model is read from disk."""
    config = load_pipeline(PANGU, ["external={s3://a/rows: {format: prompts}, cache://m: {format: model}}"])
    cluster = load_profile("atlas_800t_a2_128")
    assert unshared(config, cluster.model_copy(update={"env": {"PANGU_RL_CACHE": "/shared/cache"}})) == []
    assert [line.split(" is ")[0] for line in unshared(config, cluster.model_copy(update={"env": {}}))] == [
        "external cache://m cache://m"
    ]
    config.external["s3://a/model"] = ExternalEntry(format="model")
    assert "external s3://a/model s3://a/model" in unshared(config, cluster)[-1]


def test_the_issue_of_a_wider_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of 128 ranks on 64 devices: every such stage, by its own line."""
    found = checked(PANGU, profile="atlas_800t_a2_64")
    faulty = {fault.split(":")[0] for fault in found.faults}
    assert {"clusters", "pretraining", "difficulty", "iterative_stem"} <= faulty
    assert "assembled" not in faulty


def test_the_command_says_it_with_its_exit_code() -> None:
    run = ["pipeline", "--config", MINDVL, "--check"]
    good = CliRunner().invoke(app, [*run, "--json"])
    assert good.exit_code == 0, good.output
    shown: dict[str, Any] = json.loads(good.stdout)
    assert shown["fits"] and shown["profile"] == "atlas_800t_a2_128"
    bad = CliRunner().invoke(app, [*run, "stages.multitask.takes={}"])
    assert bad.exit_code == 2
    assert re.search(r"planned on atlas_800t_a2_128: 1 fault\s", bad.stdout)
    assert "fault: multitask: model.path /shared/runs/mindvl_8b/warmup_mean/model" in bad.stdout.replace("\n", " ")
    with pytest.raises(ConfigError, match="--profile belongs to --check"):
        CliRunner().invoke(app, [*run[:-1], "--profile", "gpu"], catch_exceptions=False)
