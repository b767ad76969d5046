"""Seconds from sizes by hand, feasible splits, and what the table and the command say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from pangu_rl.cli.app import app
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.devices import DeviceFacts
from pangu_rl.config.load import load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.flops import ModelFlops, loaded_config
from pangu_rl.learner.measure.model_shape import read_shape
from pangu_rl.simulation.case import read_case
from pangu_rl.simulation.lengths import LognormalLengths, Prompts
from pangu_rl.simulation.measured import non_negative
from pangu_rl.simulation.placements import Case, Split, predict, set_up
from pangu_rl.simulation.rates import Constants, ModelSize, communication, engine_cost
from pangu_rl.simulation.search import best, predictions, recommended, shared_split, splits
from pangu_rl.simulation.shown import draw, recommendation
from tests.contracts.source_tree import ROOT

SHAPE = read_shape(ROOT / "configs/models/openpangu_vl_7b")
MODEL = ModelSize(shape=SHAPE, size=2)
FACTS = DeviceFacts(tflops=300, memory_gb_s=1500, link_gb_s=200, network_gb_s=25, host_gb_s=25, source="made up")
SETTINGS = [
    "start=null",
    f"model.path={ROOT}/configs/models/openpangu_vl_7b",
    "rollout.max_new_tokens=4096",
    "rollout.max_model_tokens=8192",
    "rollout.kv_cache_gib=20",
    "learner.zero_stage=3",
    "learner.gradient_checkpointing=true",
    "trainer.prompts_per_step=32",
]


def cluster(count: int, devices: int, gib: float = 64) -> ClusterProfile:
    nodes = {"name": "n", "count": count, "devices": devices, "device_memory_gib": gib, "cpus": 8, "memory_gib": 100}
    return ClusterProfile.model_validate(
        {"description": "made up", "accelerator": "cpu", "device": "ascend_910b", "nodes": [nodes]}
    )


def case(profile: ClusterProfile, *changes: str) -> Case:
    lengths = LognormalLengths(median=800, sigma=0.7, prompt=100, cap=4096)
    return Case(
        config=load_config(GrpoConfig, ROOT / "configs/quickstart/grpo_text.yaml", [*SETTINGS, *changes]),
        profile=profile,
        facts=FACTS,
        model=MODEL,
        prompts=Prompts(lengths=lengths, completions=8),
        constants=Constants(),
    )


def test_a_decode_step_of_the_7b_by_hand():
    """34 layers of 199 million parameters and the head are 7.4 billion, 14.8 GB of bf16: at 60 % of 1.5 TB/s 16 ms.
    A token's cache is 2 x 34 x 8 x 128 x 2 = 139,264 bytes."""
    cost = engine_cost(MODEL, FACTS, 1, Constants(step_s=0.01, sequence_s=0.0, engine_share=0.6))
    assert cost.weights_s == pytest.approx(14.8e9 / (0.6 * 1.5e12), rel=0.01)
    assert cost.cached_s == pytest.approx(139_264 / 0.9e12)
    assert cost.decode(1, 0, 1) == pytest.approx(0.01 + cost.weights_s)
    # Two devices halve all but the host's work.
    assert engine_cost(MODEL, FACTS, 2, Constants()).weights_s == pytest.approx(cost.weights_s / 2)


def test_flops_of_the_shape_are_those_of_the_configuration():
    theirs = ModelFlops.of(loaded_config(ROOT / "configs/models/openpangu_vl_7b", trust_remote_code=False))
    ours = MODEL.flops
    assert (ours.per_token, ours.per_pair, ours.per_target) == (theirs.per_token, theirs.per_pair, theirs.per_target)


def test_collectives_by_hand():
    """10^9 parameters in bf16 over 4 ranks at 3 GB/s: 2 GB x 3/4 / 3 GB/s = 0.5 s for a gather or a scatter."""
    moved = {stage: communication(MODEL, 10**9, 4, stage, 3.0) for stage in range(4)}
    assert [moved[stage].micro_batch_s for stage in range(4)] == pytest.approx([0, 0, 0.5, 1.5])
    # An all-reduce of float32, one of bf16 with a gather, a gather, nothing.
    assert [moved[stage].update_s for stage in range(4)] == pytest.approx([2.0, 1.5, 0.5, 0])
    assert communication(MODEL, 10**9, 1, 3, 3.0).micro_batch_s == 0


def test_splits_keep_engines_and_sequence_groups_on_a_node():
    """Two nodes of 4, engines of 2 and groups of 2: at one engine 6 devices are left, at two 4 and at three 2."""
    own = case(cluster(2, 4), "rollout.devices_per_actor=2", "learner.sequence_parallel=2", "learner.ranks=2")
    assert [(one.engines, one.ranks) for one in splits(own, 0)] == [(1, 6), (2, 4), (3, 2)]
    # Engines of 3: one device of each node is left, and no group of 2 fits.
    odd = case(cluster(2, 4), "rollout.devices_per_actor=3", "learner.sequence_parallel=2", "learner.ranks=2")
    assert [(one.engines, one.ranks) for one in splits(odd, 0)] == [(1, 4)]
    assert shared_split(odd) is None
    assert shared_split(own) == Split(engines=4, ranks=8, shared=True)


def test_the_best_split_is_that_of_trying_all():
    own = case(cluster(2, 8))
    for staleness in (0, 2):
        candidates = list(splits(own, staleness))
        everything = [predict(own, split) for split in candidates]
        least = min(one.steps.step_s for one in everything if not one.problems)
        found = best(candidates, lambda split: predict(own, split))
        assert not found.problems and found.steps.step_s <= least * 1.03


def test_what_does_not_fit_is_said_and_not_recommended():
    whole = "learner.zero_stage=1"
    found = predictions(case(cluster(1, 8), whole))
    assert all("GiB on its device, which has 64" in one.problems[0] for one in found)
    assert recommended(found, 0) is None
    assert recommendation(None, 0).startswith("no placement fits")


def test_staler_placements_are_shown_and_not_recommended_unasked():
    found = predictions(case(cluster(2, 8)))
    assert [one.split.staleness for one in found][:4] == [0, 0, 1, 2]
    chosen = recommended(found, 0)
    assert chosen is not None and chosen.split.staleness == 0
    assert recommended(found, 2).steps.step_s <= chosen.steps.step_s
    assert f"rollout.actors={chosen.split.engines}" in recommendation(chosen, 0)


def test_a_cache_that_holds_no_answer_is_refused():
    with pytest.raises(ConfigError, match=r"kv_cache_gib holds 7710 tokens.*has up to 8192: set it to 1\.1"):
        predict(case(cluster(1, 8), "rollout.kv_cache_gib=1", "data.max_prompt_tokens=4096"), Split(engines=1, ranks=1))


@pytest.mark.parametrize(
    ("devices", "tokens"),
    # 2 layers' tensors x 34 layers x 128 x 2 bytes = 17,408 a head; of 8 heads a device has 8, 2, and at least 1.
    [(1, 20 * 2**30 // 139_264), (4, 20 * 2**30 // 34_816), (16, 20 * 2**30 // 17_408)],
)
def test_the_cache_is_that_of_each_device_as_vllm_takes_it(devices, tokens):
    """`kv_cache_memory_bytes` is "Size of KV Cache per GPU" (vllm/config/cache.py)."""
    own = case(cluster(1, 32), f"rollout.devices_per_actor={devices}")
    split = Split(engines=1, ranks=1)
    assert set_up(own, split, None).cache_tokens == tokens
    assert predict(own, split).engine_gib == pytest.approx(MODEL.weight_bytes / devices / 2**30 + 20)


def test_an_engine_takes_what_its_weights_leave():
    own = case(cluster(1, 8), "rollout.kv_cache_gib=null", "rollout.memory_share=0.5")
    assert predict(own, Split(engines=1, ranks=7)).engine_gib == pytest.approx(32)


def test_constants_come_back_from_seconds_that_were_made_with_them():
    truth = Constants(step_s=0.02, sequence_s=1e-3)
    rows = [
        [5.0, steps, made, 5.0 + steps * truth.step_s + made * truth.sequence_s] for steps, made in ((9, 50), (7, 90))
    ]
    assert non_negative(np.array(rows)) == pytest.approx((0.02, 1e-3))
    # Seconds that only the second explains, and with the first below 0: it becomes 0.
    assert non_negative(np.array([[0.0, 1.0, 1.0, 1.0], [0.0, 2.0, 1.0, 0.9]]))[0] == 0.0


def test_a_picture_is_drawn(tmp_path):
    own = case(cluster(1, 8))
    draw(
        [predict(own, Split(engines=4, ranks=4)), predict(own, Split(engines=4, ranks=4, staleness=1))],
        tmp_path / "a.png",
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    lengths = tmp_path / "lengths.yaml"
    lengths.write_text("median: 500\nsigma: 0.5\nprompt: 100\nreward_s: 7\n", encoding="utf-8")
    options = ["plan", "--config", "configs/quickstart/grpo_text.yaml", "--profile", "atlas_800t_a2", *SETTINGS]
    done = CliRunner().invoke(app, [*options, "--lengths", str(lengths), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    names = [row["name"] for row in told["placements"]]
    assert names == ["split, in turn"] * 2 + ["split, stale 1", "split, stale 2", "split, stale 4", "shared, in turn"]
    for row in told["placements"]:
        assert sum(row["steps"]["phases"].values()) == pytest.approx(row["steps"]["step_s"])
    assert told["placements"][0]["steps"]["phases"]["reward"] == 7.0
    assert told["recommended"]["split"]["staleness"] == 0


@pytest.mark.parametrize(
    ("changes", "profile", "message"),
    [
        ([], {}, "no lengths of answers"),
        (["model.path=nowhere"], {}, "no config.json of a plain decoder"),
        ([], {"device": None}, "device is null: set it to one of ascend_910b"),
        (["trainer.max_staleness=1", "algorithm.correction.high=2.0"], {"devices": 0}, "the profile has no devices"),
    ],
)
def test_what_is_missing_is_one_line(changes, profile, message, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    lengths = tmp_path / "lengths.yaml"
    lengths.write_text("median: 500\nsigma: 0.5\nprompt: 100\n", encoding="utf-8")
    own = cluster(1, profile.get("devices", 8)).model_copy(update={k: v for k, v in profile.items() if k == "device"})
    config = load_config(GrpoConfig, "configs/quickstart/grpo_text.yaml", [*SETTINGS, *changes])
    with pytest.raises(ConfigError, match=message):
        read_case(config, own, None if "lengths" in message else lengths, [])
