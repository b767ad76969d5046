"""A node that is gone for good: a real cluster loses nodes, and what lay on them moves, or is said to have no place."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.cluster import placement
from pangu_rl.cluster.live_plan import live_nodes
from pangu_rl.cluster.placement import Placement, open_placement
from pangu_rl.config.load import load_config
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.config.stages import SftConfig
from pangu_rl.errors import NoPlace
from rollout.engine import EngineSpec
from rollout.pool import RolloutPool
from tests.contracts.source_tree import ROOT
from tests.fake_cluster import fake_cluster
from tests.unit.cluster.test_placement import start, where
from tests.unit.cluster.test_plan import grpo
from tests.unit.rollout.test_silence import request

NPU = get_accelerator("npu")


def wait_until_lost(found: Placement, name: str) -> None:
    end = time.monotonic() + 60
    while found.learner_lost(0) != name:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_what_lay_on_a_lost_node_moves_to_free_devices_while_there_are_some(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes of 1, 3 and 3 devices. Engine 0 fills the first; engine 1 and the two ranks, which share packs, the second.
    The third has room when that is gone; when it goes too, nothing has."""
    monkeypatch.setattr(placement, "LOOK_S", 0.0)
    config = grpo(actors=2, width=1, learner={"ranks": 2, "sequence_parallel": 2, "zero_stage": 1})
    with fake_cluster([1, 3, 3]) as cluster:
        nodes = live_nodes(NPU)
        names = [node.name for node in nodes]
        with open_placement(config, NPU) as found:
            asked = [found.learner_options(0), found.learner_options(1), found.engine_options(1)]
            before = where([start(options) for options in asked])
            assert {node for node, _, _ in before} == {nodes[1].id} or {node for node, _, _ in before} == {nodes[2].id}
            home = next(index for index, node in enumerate(nodes) if node.id == before[0][0])
            other = 3 - home
            assert (found.engine_lost(1), found.learner_lost(0)) == (None, None)
            by_address = {node.node_ip_address: node for node in cluster.list_all_nodes()}
            cluster.remove_node(by_address[nodes[home].address])
            wait_until_lost(found, names[home])
            assert (found.engine_lost(0), found.engine_lost(1)) == (None, names[home])
            # The engine asks first, and the ranks have room too.
            asked = [found.engine_options(1), found.learner_options(0), found.learner_options(1)]
            after = where([start(options) for options in asked])
            assert {node for node, _, _ in after} == {nodes[other].id}
            assert len({device for _, devices, _ in after for device in devices}) == 3
            assert (found.engine_lost(1), found.learner_lost(0)) == (None, None)
            told = [line for line in caplog.messages if "moved to" in line]
            assert told == [
                f"{who}: moved to {names[other]}, since node {names[home]} is gone"
                for who in ("learner ranks 0 to 1", "rollout actor 1")
            ]
            cluster.remove_node(by_address[nodes[other].address])
            wait_until_lost(found, names[other])
            says = rf"the node of rollout actor 1, {names[other]}, is gone, and no other has 1 free devices for it \("
            with pytest.raises(NoPlace, match=says):
                found.engine_options(1)
            with pytest.raises(NoPlace, match=r"no other has 2 free .*; the same command goes on from the newest"):
                found.learner_options(1)
            found.engine_options(0)


@pytest.mark.slow
def test_an_engine_of_a_node_that_was_killed_draws_elsewhere() -> None:
    """Its process is gone before Ray knows that its node is: it is sent back there once, and waits for no 600 s."""
    spec = EngineSpec(
        model=ModelConfig(path="unused"),
        rollout=RolloutConfig(engine="fake", actors=2),
        accelerator=get_accelerator("cpu"),
        model_path=Path("unused"),
    )
    config = grpo(actors=2, width=1, learner={"ranks": 1, "zero_stage": 1})
    with fake_cluster([2, 1, 1]) as cluster, open_placement(config, NPU) as found:
        pool = RolloutPool(spec, found.engine_options, place_lost=found.engine_lost)
        pool.start()
        home = next(node for node in live_nodes(NPU) if node.name == found._places["rollout actor 1"].node.name)
        [killed] = [node for node in cluster.list_all_nodes() if node.node_ip_address == home.address]
        began = time.monotonic()
        cluster.remove_node(killed, allow_graceful=False)
        while not pool.restarts:
            assert len(list(pool.generate([request(name, 4) for name in "abcd"]))) == 4
        pool._crew.settle()  # as every sync begins
        assert pool.restarts in (1, 2) and len(pool._crew.slots) == 2
        assert time.monotonic() - began < 120
        assert found._places["rollout actor 1"].node.name != home.name
        pool.close()


@pytest.mark.slow
def test_what_one_node_alone_held_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that the engines would load lie in the memory of the node that is gone. Ranks alone do move."""
    monkeypatch.setattr(placement, "LOOK_S", 0.0)
    supervised = load_config(
        SftConfig,
        ROOT / "configs/quickstart/sft_text.yaml",
        ["learner.ranks=2", "learner.zero_stage=1", "trainer.run_dir=/shared/r"],
    )
    both = (grpo(actors=1, width=2, ranks=2), supervised)
    with fake_cluster([0, 4, 4, 4]) as cluster, ExitStack() as stack:
        online, alone = (stack.enter_context(open_placement(config, NPU)) for config in both)
        by_address = {node.node_ip_address: node for node in cluster.list_all_nodes()}
        named = {node.name: node.address for node in live_nodes(NPU)}
        homes = [found._places["learner rank 0"].node.name for found in (online, alone)]
        for found, home in zip((online, alone), homes, strict=True):
            cluster.remove_node(by_address[named[home]])
            wait_until_lost(found, home)
        with pytest.raises(NoPlace, match=r"rollout actor 0, .*, is gone, and with it what engines and learner share"):
            online.engine_options(0)
        [(node, _, _)] = where([start(alone.learner_options(0))])
        assert node in {one.id for one in live_nodes(NPU)}
