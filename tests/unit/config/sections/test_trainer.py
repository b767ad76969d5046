"""Steps that may be profiled, and engines that share devices with the learner."""

from __future__ import annotations

import pytest

from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked
from pangu_rl.config.sampling import IterativeConfig, PairsConfig
from pangu_rl.config.sections.trainer import SftTrainerConfig
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.config.vision import VisionTrainerConfig
from pangu_rl.errors import ConfigError


def test_a_step_that_is_never_taken_is_not_profiled():
    tree = {"run_dir": "r", "steps": 4, "profile_steps": [2, 4]}
    assert checked(SftTrainerConfig, tree, "sft").profile_steps == (2, 4)
    with pytest.raises(ConfigError, match="profile_steps has 5 and the stage ends after 4 steps"):
        checked(SftTrainerConfig, tree | {"profile_steps": [2, 5]}, "sft")


def test_the_stage_of_the_tower_does_not_profile():
    with pytest.raises(ConfigError, match="does not profile"):
        checked(VisionTrainerConfig, {"run_dir": "r", "profile_steps": [1]}, "vit")


def shared(ranks: int, staleness: int = 0) -> dict:
    return {
        "model": {"path": "m"},
        "data": {"train": "t"},
        "rollout": {"placement": "shared", "actors": 2, "devices_per_actor": 4},
        "algorithm": {"correction": {"high": 2.0}},
        "learner": {"ranks": ranks},
        "trainer": {"run_dir": "r", "steps": 1, "max_staleness": staleness},
    }


def test_shared_engines_lie_on_devices_of_ranks_and_draw_nothing_ahead():
    checked(GrpoConfig, shared(ranks=8), "grpo")
    with pytest.raises(ConfigError, match=r"actors 2 x rollout\.devices_per_actor 4 = 8 exceed learner\.ranks 7"):
        checked(GrpoConfig, shared(ranks=7), "grpo")
    with pytest.raises(ConfigError, match=r"placement is shared and trainer\.max_staleness is 1"):
        checked(GrpoConfig, shared(ranks=8, staleness=1), "grpo")


@pytest.mark.parametrize(
    ("schema", "data", "trainer"),
    [
        (EvalConfig, {"sets": {"a": "a.jsonl"}}, {"run_dir": "r"}),
        (PairsConfig, {"queries": "q"}, {"run_dir": "r"}),
        (IterativeConfig, {"queries": "q"}, {"run_dir": "r"}),
    ],
)
def test_engines_without_a_learner_beside_them_share_with_nobody(schema, data, trainer):
    tree = {"model": {"path": "m"}, "data": data, "rollout": {"placement": "shared"}, "trainer": trainer}
    with pytest.raises(ConfigError, match="no learner runs beside the engines of this stage: set it to split"):
        checked(schema, tree, "stage")
