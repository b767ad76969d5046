"""What a stage of pre-training refuses, and the steps that its tokens come to."""

from __future__ import annotations

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.errors import ConfigError


def stage(**sections) -> PretrainConfig:
    trainer = {"run_dir": "r", "packs_per_step": 4} | sections.pop("trainer", {})
    tree = {"model": {"path": "m"}, "data": {"train": "t.jsonl"}, "trainer": trainer, "learner": {"pack_tokens": 100}}
    return checked(PretrainConfig, tree | sections, "test")


def test_steps_follow_from_tokens_unless_they_are_given():
    assert stage(trainer={"tokens": 2000}).trainer.steps == 5
    assert stage(trainer={"tokens": 2e3}).trainer.steps == 5, "a whole number is one however it is written"
    assert stage(trainer={"tokens": 2000, "steps": 3}).trainer.steps == 3


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, "trainer.steps and trainer.tokens are both null"),
        (
            {"trainer": {"steps": 1}, "learner": {"ranks": 3}},
            "packs_per_step 4 cannot be dealt equally to learner.ranks 3",
        ),
        (
            {"trainer": {"steps": 1}, "learner": {"ranks": 6, "sequence_parallel": 2}},
            "packs_per_step 4 cannot be dealt equally to the 3 groups of 2 learner.ranks",
        ),
        ({"trainer": {"tokens": "many"}}, "trainer.tokens is 'many'"),
        ({"trainer": {"tokens": 2.5}}, "trainer.tokens is 2.5"),
        ({"trainer": {"tokens": 2000}, "learner": "big"}, "learner is 'big': is to be a section"),
        ({"data": {"train": "t", "min_pixels": 4000}, "trainer": {"steps": 1}}, "set both or neither"),
        (
            {"data": {"train": "t", "min_pixels": 100_000, "max_pixels": 1000}, "trainer": {"steps": 1}},
            "min_pixels 100000 exceeds max_pixels 1000: lower the first",
        ),
        ({"data": {"train": "t", "plan": "p", "shares": {"a": 1}}, "trainer": {"steps": 1}}, "give the shares to"),
    ],
)
def test_what_cannot_be_is_refused(sections, message):
    with pytest.raises(ConfigError, match=message):
        stage(**sections)
