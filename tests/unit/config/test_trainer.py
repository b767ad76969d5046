"""Steps that may be profiled."""

from __future__ import annotations

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.trainer import SftTrainerConfig
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
