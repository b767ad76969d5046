"""Reward functions that ask models: **the file of scorers that each one names** in its argument `config`."""

from __future__ import annotations

from collections.abc import Iterable

from pangu_rl.config.load import load_config
from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.config.sections.scorers import FILES, JudgeConfig, ScorersConfig


def scorer_files(functions: Iterable[RewardFunctionConfig]) -> list[ScorersConfig | JudgeConfig]:
    """Of those functions that name one.

    Raises:
        ConfigError: a file that cannot be used.
    """
    return [
        load_config(FILES[function.name], str(function.args["config"]))
        for function in functions
        if function.name in FILES and "config" in function.args
    ]
