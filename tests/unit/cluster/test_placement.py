"""What the plan prints is what Ray grants: real clusters of several nodes, actors that only say where they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.cluster.jobs import load_profile
from pangu_rl.cluster.live_plan import live_nodes, require_room, with_free
from pangu_rl.cluster.nodes import nodes_of_profile
from pangu_rl.cluster.placement import Options, Placement, open_placement
from pangu_rl.cluster.plan import plan
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import ConfigError, Preempted, RunError
from tests.contracts.source_tree import ROOT
from tests.fake_cluster import fake_cluster
from tests.unit.cluster.test_plan import grpo, profile

NPU, CUDA, CPU = map(get_accelerator, ("npu", "cuda", "cpu"))


class Here:
    """An actor without torch."""

    def where(self) -> tuple[str, list[str], str | None]:
        """(node, devices that Ray gave, devices that the process sees)."""
        context = ray.get_runtime_context()
        given = context.get_accelerator_ids()
        return context.get_node_id(), given["NPU"] + given["GPU"], os.environ.get(NPU.visible_env)


def start(options: Options) -> ray.actor.ActorHandle:
    return ray.remote(Here).options(**options).remote()


def where(actors: list[ray.actor.ActorHandle]) -> list[tuple[str, list[str], str | None]]:
    return ray.get([actor.where.remote() for actor in actors], timeout=120)


def actors_of(placement: Placement, config: GrpoConfig) -> list[ray.actor.ActorHandle]:
    engines = [placement.engine_options(index) for index in range(config.rollout.actors)]
    ranks = [placement.learner_options(rank) for rank in range(config.learner.ranks)]
    rewards = [placement.reward_options(index) for index in range(config.rewards.workers)]
    return [start(options) for options in (*engines, *ranks, *rewards)]


def printed(config: GrpoConfig, cluster: ClusterProfile) -> tuple[list[str], list[str]]:
    """Of the plan that `submit --plan` shows: the node of every actor, and of every bundle, by the nodes' order."""
    found = plan("grpo", config, cluster)
    assert found.fits, found.all_problems
    places = [node.name for node in nodes_of_profile(cluster)]
    [phase] = found.phases
    order = ("rollout", "learner", "reward")
    actors = sorted(phase.placed, key=lambda placed: order.index(placed.actor.name.split()[0]))
    return [places.index(one.node) for one in actors], [places.index(bundle.node) for bundle in phase.bundles]


def granted_bundles(accelerator: Accelerator) -> list[int]:
    """The node of every bundle of the one group that there is, by the nodes' order; without devices there is none."""
    nodes = [node.id for node in live_nodes(accelerator)]
    groups = [group for group in placement_group_table().values() if group["state"] == "CREATED"]
    assert len(groups) == (accelerator.ray_resource is not None)
    return [nodes.index(node) for group in groups for _, node in sorted(group["bundles_to_node_id"].items())]


def check_granted(config: GrpoConfig, cluster: ClusterProfile, accelerator: Accelerator) -> None:
    """Bundles and actors are on the nodes that are printed, and no two actors hold one device."""
    nodes = [node.id for node in live_nodes(accelerator)]
    with open_placement(config, accelerator) as placement:
        found = where(actors_of(placement, config))
        assert ([nodes.index(node) for node, _, _ in found], granted_bundles(accelerator)) == printed(config, cluster)
        held = [(node, device) for node, devices, _ in found for device in devices]
        split = config.rollout.placement == "split"
        wanted = config.learner.ranks + split * config.rollout.actors * config.rollout.devices_per_actor
        assert len(set(held)) == len(held) == (wanted if accelerator.ray_resource else 0)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[None]:
    with fake_cluster([8, 8]):
        yield


@pytest.fixture(autouse=True)
def all_is_given_back(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "two_nodes" in request.fixturenames:
        wait_until_free(16)


def wait_until_free(count: int) -> None:
    end = time.monotonic() + 20
    while (free := sum(node.devices for node in with_free(live_nodes(NPU), "NPU"))) < count:
        assert time.monotonic() < end, f"{free} of {count} devices are free"
        time.sleep(0.1)


def test_engines_groups_and_workers_go_where_the_plan_says(two_nodes):
    """Sequence groups of 3 on both nodes, two engines of 4, two reward workers."""
    learner = {"ranks": 6, "sequence_parallel": 3, "zero_stage": 1}
    config = grpo(actors=2, width=4, learner=learner, rewards={"workers": 2})
    check_granted(config, profile(count=2, devices=8), NPU)


def test_gpus_are_asked_for_by_their_own_name(two_nodes):
    config = grpo(actors=1, width=8, ranks=1, cluster={"accelerator": "cuda"})
    check_granted(config, profile(count=2, devices=8, accelerator="cuda"), CUDA)


def test_a_shared_engine_sees_the_devices_of_its_ranks(two_nodes):
    rollout = {"placement": "shared", "actors": 2, "devices_per_actor": 2}
    config = grpo(rollout=rollout, ranks=5)
    check_granted(config, profile(count=2, devices=8), NPU)
    with open_placement(config, NPU) as placement:
        found = where(actors_of(placement, config))
    engines, ranks = found[:2], found[2:7]
    for index, (node, given, visible) in enumerate(engines):
        own = ranks[2 * index : 2 * index + 2]
        assert given == [], "the ranks hold the devices"
        assert sorted(visible.split(",")) == sorted(device for _, devices, _ in own for device in devices)
        assert {node} == {place for place, _, _ in own}


def test_an_actor_that_died_leaves_its_place_to_the_next(two_nodes):
    config = grpo(actors=2, width=4, ranks=8)
    with open_placement(config, NPU) as placement:
        engine = start(placement.engine_options(1))
        rank = start(placement.learner_options(7))
        before = where([engine, rank])
        for actor in (engine, rank):
            ray.kill(actor)
        assert where([start(placement.engine_options(1)), start(placement.learner_options(7))]) == before


def test_without_devices_each_role_goes_over_all_nodes(two_nodes):
    """No group: Ray has no bundle without resources."""
    config = grpo(actors=2, ranks=2, rewards={"workers": 1}, cluster={"accelerator": "cpu"})
    nodes = [node.id for node in live_nodes(CPU)]
    with open_placement(config, CPU) as placement:
        found = [nodes.index(node) for node, _, _ in where(actors_of(placement, config))]
        assert found == printed(config, profile(count=2, devices=8))[0] == [0, 1, 0, 1, 0]
        assert not placement.shares_memory, "an engine is not on the node of rank 0"


def test_nodes_are_chosen_by_what_other_jobs_leave(two_nodes):
    """Another job holds 6 devices of the first node: what would go there by itself goes to the second."""
    first, second = (node.id for node in live_nodes(NPU))
    theirs = placement_group([{"NPU": 6, f"node:{live_nodes(NPU)[0].address}": 0.001}])
    assert theirs.wait(20)
    try:
        with open_placement(grpo(actors=1, width=4, ranks=2), NPU) as placement:
            engine, rank = where([start(placement.engine_options(0)), start(placement.learner_options(0))])
            assert (engine[0], rank[0]) == (second, first), "the ranks fill the hole"
    finally:
        remove_placement_group(theirs)


def test_devices_that_others_hold_are_waited_for_and_not_for_ever(two_nodes):
    theirs = placement_group([{"NPU": 8}])
    assert theirs.wait(20)
    config = grpo(actors=1, width=8, ranks=8, cluster={"wait_s": 0.5})
    says = r"16 NPU were not granted within 0\.5 s \(cluster\.wait_s\): .* 8, where [08] of 8 are free; .* 8, where"
    try:
        with pytest.raises(RunError, match=says), open_placement(config, NPU):
            raise AssertionError("granted what was held")
        with pytest.raises(Preempted), open_placement(grpo(ranks=8), NPU, stop=preempt):
            raise AssertionError("granted what was held")
    finally:
        remove_placement_group(theirs)
    with open_placement(grpo(ranks=8), NPU):
        pass


def preempt() -> None:
    raise Preempted("SIGTERM")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (grpo(width=16), "rollout actor 0 asks for 16 devices on one node, a node has 8: lower rollout.devices_per_"),
        (grpo(actors=3, width=5), "6 are free, at most 3 of them on one node"),
        (grpo(ranks=16), "learner rank 15 asks for 1 device on one node, and all 16 are taken"),
        (
            grpo(learner={"ranks": 12, "sequence_parallel": 12, "zero_stage": 1}),
            "learner ranks 0 to 11 asks for 12 devices on one node, a node has 8: lower learner.sequence_parallel to 8",
        ),
    ],
)
def test_what_can_never_be_placed_is_refused_at_once(two_nodes, config, says):
    with pytest.raises(ConfigError, match=says):
        require_room(config, NPU)
    assert not placement_group_table() or all(g["state"] == "REMOVED" for g in placement_group_table().values())


HELD = """
import os, sys, ray
from pangu_rl.accelerators import get_accelerator
from pangu_rl.cluster.placement import open_placement
from tests.unit.cluster.test_plan import grpo

ray.init(address=sys.argv[1], log_to_driver=False)
with open_placement(grpo(actors=1, width=8, ranks=8), get_accelerator("npu")):
    print("granted", flush=True)
    sys.stdin.read()
"""


def test_a_group_ends_with_its_driver(two_nodes):
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", HELD, address]
    driver = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout.readline() == "granted\n"
        assert sum(node.devices for node in with_free(live_nodes(NPU), "NPU")) == 0
    finally:
        driver.kill()
        driver.wait()
    wait_until_free(16)


@pytest.mark.slow
def test_48_ranks_and_4_engines_over_4_devices_fill_8_nodes():
    """What a default placement does not find: ranks that come first take devices of every node."""
    with fake_cluster([8] * 8):
        check_granted(grpo(actors=4, width=4, ranks=48), profile(count=8, devices=8), NPU)
        wait_until_free(64)
        learner = {"ranks": 48, "sequence_parallel": 8, "zero_stage": 1}
        check_granted(grpo(actors=4, width=4, learner=learner), profile(count=8, devices=8), NPU)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/clusters").glob("*.yaml")))
def test_every_shipped_profile_is_granted_as_printed(name, monkeypatch):
    """GRPO with ranks on one half of the devices and engines over 4 on the other."""
    monkeypatch.chdir(ROOT)
    cluster = load_profile(name)
    devices = [node.devices for node in nodes_of_profile(cluster)]
    half = sum(devices) // 2
    sizes = [
        f"learner.ranks={half or 2}",
        f"rollout.actors={half // 4 or 2}",
        f"rollout.devices_per_actor={4 if half else 1}",
    ]
    overrides = [*sizes, f"cluster.accelerator={cluster.accelerator}", "start=null", "model.path=/shared/m"]
    config = load_config(GrpoConfig, "configs/quickstart/grpo_text.yaml", [*overrides, "trainer.run_dir=/shared/r"])
    with fake_cluster(devices):
        check_granted(config, cluster, get_accelerator(cluster.accelerator))
