"""A run that is over is known by its configuration and its newest checkpoint, and nothing else counts as over."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.checkpoint.finished import finished, write_finished
from pangu_rl.checkpoint.store import LATEST, CheckpointStore
from pangu_rl.config.load import dump_config
from pangu_rl.config.stages import SftConfig


def config(folder: Path, steps: int = 3) -> SftConfig:
    return SftConfig.model_validate(
        {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"run_dir": str(folder), "steps": steps}}
    )


@pytest.fixture
def over(tmp_path: Path) -> Path:
    """The folder of a run of three steps, as its end leaves it."""
    store = CheckpointStore(tmp_path, 2)
    for step in (2, 3):
        store.begin(step)
        store.commit(step, {}, {})
    (tmp_path / "config.yaml").write_text(dump_config(config(tmp_path)))
    write_finished(config(tmp_path), {"train/loss": 0.5})
    return tmp_path


def test_the_same_configuration_is_over(over: Path) -> None:
    assert finished(config(over)) == {"train/loss": 0.5}


def test_more_steps_another_setting_or_a_lost_checkpoint_are_not(over: Path) -> None:
    assert finished(config(over, steps=4)) is None
    (over / "config.yaml").write_text("other: settings\n")
    assert finished(config(over)) is None
    (over / "config.yaml").write_text(dump_config(config(over)))
    (over / "checkpoints/step_000003").rename(over / "aside")
    assert finished(config(over)) is None


def test_keys_that_are_shown_alike_make_two_runs(over: Path) -> None:
    settings = config(over).model_dump()
    one, other = (
        SftConfig.model_validate(settings | {"model": {"path": f"https://user:{key}@host/m"}}) for key in ("a", "b")
    )
    (over / "config.yaml").write_text(dump_config(one))
    write_finished(one, {"train/loss": 0.5})
    assert finished(one) is not None and finished(other) is None


def test_a_run_that_was_killed_before_its_last_word_is_not(tmp_path: Path) -> None:
    assert finished(config(tmp_path)) is None


def test_the_link_follows_the_newest_checkpoint(over: Path) -> None:
    assert (over / LATEST).readlink() == Path("checkpoints/step_000003")
    assert (over / LATEST / "state.json").is_file()
