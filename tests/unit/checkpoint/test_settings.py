"""A run directory belongs to the settings that it was begun with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.checkpoint.settings import claim, flat
from pangu_rl.errors import ConfigError


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    claim(tmp_path, {"a": {"b": (1, 2)}, "c": None})
    claim(tmp_path, {"c": None, "a": {"b": (1, 2)}})


def test_others_are_refused_with_both_values(tmp_path: Path) -> None:
    claim(tmp_path, {"rollout": {"temperature": 1.0}, "seed": 0})
    with pytest.raises(ConfigError, match=r"begun with rollout.temperature 1.0, now it is 0.7: set it back"):
        claim(tmp_path, {"rollout": {"temperature": 0.7}, "seed": 0})
    with pytest.raises(ConfigError, match=r"begun with seed 0, now it is 'absent'"):
        claim(tmp_path, {"rollout": {"temperature": 1.0}})
    with pytest.raises(ConfigError, match=r"begun with more 'absent', now it is 1"):
        claim(tmp_path, {"rollout": {"temperature": 1.0}, "seed": 0, "more": 1})


def test_digests_are_told_by_their_first_signs(tmp_path: Path) -> None:
    claim(tmp_path, {"weights": "64f85761370b" + "0" * 52})
    with pytest.raises(ConfigError, match=r"begun with weights 64f85761370b, now it is 16f080c0a0ef: set it back"):
        claim(tmp_path, {"weights": "16f080c0a0ef" + "0" * 52})


def test_flat_names_nested_keys_and_leaves_free_ones_out() -> None:
    assert flat({"a": {"b": 1, "x": 2}, "c": {}, "x": 3}, free=("x",)) == {"a.b": 1, "c": {}}


def test_a_new_setting_that_is_null_does_not_end_old_runs(tmp_path: Path) -> None:
    claim(tmp_path, {"learner": {"ranks": 1}})
    claim(tmp_path, {"learner": {"ranks": 1, "lora": None}})
    with pytest.raises(ConfigError, match=r"begun with learner.lora.rank 'absent', now it is 8"):
        claim(tmp_path, {"learner": {"ranks": 1, "lora": {"rank": 8}}})
